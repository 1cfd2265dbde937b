//! Says each line again, louder: a service of byte streams, which has a connection as it
//! is and leaves TLS to the host.

use std::io::{BufRead, BufReader, Write};

use ron_guest::Error;
use ron_guest::stream::{Connection, Handler, Input, Output};

struct Shout;

impl Handler for Shout {
    fn handle(_: Connection, input: Input, mut output: Output) -> Result<(), Error> {
        for line in BufReader::new(input).lines() {
            writeln!(output, "{}!", line?.to_uppercase())?;
        }
        Ok(())
    }
}

ron_guest::connections!(Shout);
