//! Told to die, exits with code 3.

test_guests::mortal!(|_| std::process::exit(3));
