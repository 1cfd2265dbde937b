//! Certificates and a client of TLS: the program `openssl`.

use std::io::Write;
use std::path::Path;
use std::process::{Command, Stdio};

/// Runs `openssl` in `directory` with that on its standard input; what it prints.
pub(crate) fn openssl(directory: &Path, arguments: &str, input: &str) -> String {
    let mut command = Command::new("openssl");
    command.current_dir(directory).args(arguments.split(' ').filter(|word| !word.is_empty()));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::piped());
    let mut child = command.spawn().expect("openssl is there");
    let mut stdin = child.stdin.take().expect("piped");
    // A client that was refused may be gone already.
    let _ = stdin.write_all(input.as_bytes());
    drop(stdin);
    let output = child.wait_with_output().expect("it ends");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A certificate for that name, which signs itself, in `NAME.pem` and `NAME.key`.
pub(crate) fn certificate(directory: &Path, file: &str, name: &str) {
    let arguments = format!(
        "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 30 -subj /CN={name} \
         -addext subjectAltName=DNS:{name} -keyout {file}.key -out {file}.pem"
    );
    openssl(directory, &arguments, "");
    assert!(directory.join(format!("{file}.pem")).is_file(), "openssl made no certificate");
}

/// A certificate for a client of that name, signed by that of `ca`.
pub(crate) fn client(directory: &Path, file: &str, ca: &str) {
    let arguments = format!(
        "req -x509 -CA {ca}.pem -CAkey {ca}.key -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes \
         -days 30 -subj /CN={file} -addext basicConstraints=critical,CA:FALSE -keyout {file}.key \
         -out {file}.pem"
    );
    openssl(directory, &arguments, "");
    assert!(directory.join(format!("{file}.pem")).is_file(), "openssl made no certificate");
}
