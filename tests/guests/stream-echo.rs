//! Handles connections. A line that begins with `!` says what to do with the rest of
//! the connection; any other is echoed.
//!
//! `!who` answers what the host knows of the connection. `!all` reads to the client's
//! end and answers then, with the number of bytes. `!half` says `bye`, ends what it
//! sends, and publishes what it still reads to `guest.NAME.rest`. `!flood` writes a
//! mebibyte, and publishes how far it is to `guest.NAME.written` whenever it has to
//! wait. `!insist` writes for ever, and panics when it cannot. `!work` computes for 50 ms before it answers, and `!generation` answers which
//! incarnation this is. `!panic`, `!fail` and `!spin` are ways to end.

use std::io::{BufRead, BufReader, Read, Write};
use std::time::{Duration, Instant};

use ron_guest::stream::{Connection, Handler, Input, Output};
use ron_guest::{Error, bus, identity};

/// Bytes of a flood.
const FLOOD: usize = 1 << 20;

struct Echo;

impl Handler for Echo {
    fn handle(connection: Connection, input: Input, mut output: Output) -> Result<(), Error> {
        let mut input = BufReader::new(input);
        let mut line = Vec::new();
        while input.read_until(b'\n', &mut line)? > 0 {
            match line.trim_ascii() {
                b"!who" => {
                    let Connection { listener, peer, local, tls, .. } = &connection;
                    write!(output, "{listener} {peer} {local}")?;
                    if let Some(tls) = tls {
                        let shown = |text: &Option<String>| text.clone().unwrap_or("-".into());
                        let (sni, alpn) = (shown(&tls.sni), shown(&tls.alpn));
                        write!(output, " {sni} {alpn} {}", shown(&tls.client_subject))?;
                    }
                    output.write_all(b"\n")?;
                }
                b"!all" => {
                    let read = std::io::copy(&mut input, &mut std::io::sink())?;
                    writeln!(output, "{read} bytes")?;
                }
                b"!half" => {
                    output.write_all(b"bye\n")?;
                    drop(output);
                    let mut rest = String::new();
                    input.read_to_string(&mut rest)?;
                    bus::publish(&test_guests::topic("rest"), rest)?;
                    return Ok(());
                }
                b"!flood" => flood(&mut output)?,
                b"!insist" => loop {
                    output.write_all(&line).expect("it is taken");
                },
                b"!work" => {
                    let until = Instant::now() + Duration::from_millis(50);
                    while Instant::now() < until {}
                    output.write_all(b"done\n")?;
                }
                b"!generation" => writeln!(output, "{}", identity::get().generation)?,
                b"!panic" => panic!("asked to"),
                b"!fail" => return Err(Error::reject("asked to")),
                b"!spin" => loop {
                    std::hint::black_box(());
                },
                _ => output.write_all(&line)?,
            }
            line.clear();
        }
        Ok(())
    }
}

/// Writes all that it may, tells how much that was, and waits for more.
fn flood(output: &mut Output) -> Result<(), Error> {
    let mut written = 0;
    while written < FLOOD {
        match output.permit()? {
            0 => {
                bus::publish(&test_guests::topic("written"), written.to_string())?;
                output.permitted();
            }
            permit => {
                let bytes = permit.min(FLOOD - written);
                output.write_all(&vec![b'x'; bytes])?;
                written += bytes;
            }
        }
    }
    Ok(())
}

ron_guest::connections!(Echo);
