//! Keys with values, in memory, within bounds: what `wasi:keyvalue` is served from.
//!
//! wasmtime's own implementation has no bound and belongs to one store, so what a
//! service kept would go with its first crash.

use std::collections::BTreeMap;

use bytes::Bytes;
use parking_lot::Mutex;
use thiserror::Error;

/// Bytes of one key.
pub(crate) const KEY: usize = 1 << 10;
/// Bytes of one value: 1 MiB.
pub(crate) const VALUE: usize = 1 << 20;
/// Bytes of all keys and values of a bucket: 16 MiB.
pub(crate) const TOTAL: usize = 16 << 20;
/// What an entry counts besides its bytes, so that empty ones are bounded too.
const EACH: usize = 128;
/// Keys that are listed at a time.
pub(crate) const PAGE: usize = 1000;

/// Why something is not kept.
#[derive(Debug, Error, PartialEq, Eq)]
pub(crate) enum Full {
    #[error("a key of {0} bytes; at most {KEY} are kept")]
    Key(usize),
    #[error("a value of {0} bytes; at most {VALUE} are kept")]
    Value(usize),
    #[error("the bucket is full: {TOTAL} bytes, {EACH} for each key among them")]
    Bucket,
    #[error("the value is no number that can be added to")]
    NoNumber,
    #[error("the sum is over 64 bits")]
    Overflow,
}

/// One bucket. What is done to it is done in one go.
#[derive(Debug, Default)]
pub(crate) struct Bucket(Mutex<Entries>);

#[derive(Debug, Default)]
struct Entries {
    values: BTreeMap<Box<str>, Bytes>,
    bytes: usize,
}

impl Bucket {
    pub(crate) fn get(&self, key: &str) -> Option<Bytes> {
        self.0.lock().values.get(key).cloned()
    }

    pub(crate) fn set(&self, key: &str, value: Vec<u8>) -> Result<(), Full> {
        self.0.lock().set(key, value.into())
    }

    pub(crate) fn delete(&self, key: &str) {
        let mut entries = self.0.lock();
        if let Some(old) = entries.values.remove(key) {
            entries.bytes -= weight(key, &old);
        }
    }

    pub(crate) fn exists(&self, key: &str) -> bool {
        self.0.lock().values.contains_key(key)
    }

    /// Up to [`PAGE`] keys in order, without the first `from` of them; and whether
    /// there are more.
    pub(crate) fn keys(&self, from: u64) -> (Vec<String>, bool) {
        let entries = self.0.lock();
        let from = usize::try_from(from).unwrap_or(usize::MAX);
        let mut rest = entries.values.keys().skip(from);
        let keys = rest.by_ref().take(PAGE).map(ToString::to_string).collect();
        (keys, rest.next().is_some())
    }

    /// Adds to a number, which is kept as decimal text; one that is not there is 0.
    pub(crate) fn increment(&self, key: &str, by: u64) -> Result<u64, Full> {
        let mut entries = self.0.lock();
        let old = match entries.values.get(key) {
            None => 0,
            Some(value) => std::str::from_utf8(value)
                .ok()
                .and_then(|text| text.parse::<u64>().ok())
                .ok_or(Full::NoNumber)?,
        };
        let new = old.checked_add(by).ok_or(Full::Overflow)?;
        entries.set(key, new.to_string().into())?;
        Ok(new)
    }
}

impl Entries {
    fn set(&mut self, key: &str, value: Bytes) -> Result<(), Full> {
        if key.len() > KEY {
            return Err(Full::Key(key.len()));
        }
        if value.len() > VALUE {
            return Err(Full::Value(value.len()));
        }
        let before = self.values.get(key).map_or(0, |old| weight(key, old));
        let bytes = self.bytes - before + weight(key, &value);
        if bytes > TOTAL {
            return Err(Full::Bucket);
        }
        self.bytes = bytes;
        self.values.insert(key.into(), value);
        Ok(())
    }
}

fn weight(key: &str, value: &Bytes) -> usize {
    key.len() + value.len() + EACH
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bucket_is_bounded() {
        let bucket = Bucket::default();
        assert_eq!(bucket.set(&"k".repeat(KEY + 1), vec![]), Err(Full::Key(KEY + 1)));
        assert_eq!(bucket.set("k", vec![0; VALUE + 1]), Err(Full::Value(VALUE + 1)));
        assert!(!bucket.exists("k"));
        let fits = TOTAL / (VALUE + EACH + 1);
        for n in 0..fits {
            let key = char::from(b'a' + u8::try_from(n).expect("few")).to_string();
            assert_eq!(bucket.set(&key, vec![0; VALUE]), Ok(()));
        }
        assert_eq!(bucket.set("z", vec![0; VALUE]), Err(Full::Bucket));
        // The same key again takes no more room, and what is deleted gives it back.
        assert_eq!(bucket.set("a", vec![1; VALUE]), Ok(()));
        bucket.delete("a");
        bucket.delete("a");
        assert_eq!(bucket.set("z", vec![0; VALUE]), Ok(()));
        let sum = |entries: &Entries| -> usize {
            entries.values.iter().map(|(key, value)| weight(key, value)).sum()
        };
        let entries = bucket.0.lock();
        assert_eq!(entries.bytes, sum(&entries));
    }

    #[test]
    fn keys_come_by_the_page() {
        let bucket = Bucket::default();
        for n in 0..PAGE + 1 {
            bucket.set(&format!("{n:05}"), vec![]).expect("there is room");
        }
        let (keys, more) = bucket.keys(0);
        assert_eq!((keys.len(), keys[0].as_str(), more), (PAGE, "00000", true));
        assert_eq!(bucket.keys(PAGE as u64), (vec![format!("{PAGE:05}")], false));
        assert_eq!(bucket.keys(u64::MAX), (vec![], false));
    }

    #[test]
    fn numbers_are_added_to() {
        let bucket = Bucket::default();
        assert_eq!(bucket.increment("n", 3), Ok(3));
        assert_eq!(bucket.increment("n", 4), Ok(7));
        assert_eq!(bucket.get("n").as_deref(), Some(&b"7"[..]));
        assert_eq!(bucket.increment("n", u64::MAX), Err(Full::Overflow));
        bucket.set("text", b"x".to_vec()).expect("there is room");
        assert_eq!(bucket.increment("text", 1), Err(Full::NoNumber));
        assert_eq!(bucket.increment(&"k".repeat(KEY + 1), 1), Err(Full::Key(KEY + 1)));
    }
}
