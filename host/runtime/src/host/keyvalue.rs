//! `wasi:keyvalue`: buckets that belong to the host.
//!
//! A service has a bucket of its own, which it opens as `""` or `default`, and those
//! that it is granted by name, which it shares with whom they are granted too. They
//! are in memory: restarts and swaps leave them, and they go with the host.

use std::sync::Arc;

use wasmtime::component::Resource;

use crate::adopted::keyvalue::store::{Error, KeyResponse};
use crate::adopted::keyvalue::{atomics, batch, store};
use crate::bucket::{Bucket, Full, TOTAL};
use crate::state::HostState;

/// A bucket that a guest has opened.
#[expect(unreachable_pub, reason = "generated code exports it again")]
pub struct Opened(Arc<Bucket>);

type Answer<T> = wasmtime::Result<Result<T, Error>>;

impl From<Full> for Error {
    fn from(full: Full) -> Self {
        Self::Other(full.to_string())
    }
}

impl HostState {
    fn bucket(&self, of: &Resource<Opened>) -> wasmtime::Result<&Bucket> {
        Ok(&self.table.get(of)?.0)
    }
}

impl store::Host for HostState {
    fn open(&mut self, name: String) -> Answer<Resource<Opened>> {
        let bucket = match &*name {
            "" | "default" => Arc::clone(self.shares.of(&self.kernel.id).bucket()),
            name if self.grants.buckets.iter().any(|own| own == name) => self.shares.bucket(name),
            name => {
                // A guest's text is as long as it likes.
                let name = crate::log::cut(name, 64);
                self.outbound.refuse(
                    &format!("bucket {name}"),
                    format_args!(
                        "opening the bucket {name:?} was denied: it is not granted; it would be \
                         by grants.buckets = [{name:?}]"
                    ),
                );
                return Ok(Err(Error::AccessDenied));
            }
        };
        Ok(Ok(self.table.push(Opened(bucket))?))
    }
}

impl store::HostBucket for HostState {
    fn get(&mut self, bucket: Resource<Opened>, key: String) -> Answer<Option<Vec<u8>>> {
        Ok(Ok(self.bucket(&bucket)?.get(&key).map(Vec::from)))
    }

    fn set(&mut self, bucket: Resource<Opened>, key: String, value: Vec<u8>) -> Answer<()> {
        Ok(self.bucket(&bucket)?.set(&key, value).map_err(Error::from))
    }

    fn delete(&mut self, bucket: Resource<Opened>, key: String) -> Answer<()> {
        self.bucket(&bucket)?.delete(&key);
        Ok(Ok(()))
    }

    fn exists(&mut self, bucket: Resource<Opened>, key: String) -> Answer<bool> {
        Ok(Ok(self.bucket(&bucket)?.exists(&key)))
    }

    fn list_keys(&mut self, bucket: Resource<Opened>, cursor: Option<u64>) -> Answer<KeyResponse> {
        let from = cursor.unwrap_or(0);
        let (keys, more) = self.bucket(&bucket)?.keys(from);
        let cursor = more.then(|| from.saturating_add(keys.len() as u64));
        Ok(Ok(KeyResponse { keys, cursor }))
    }

    fn drop(&mut self, bucket: Resource<Opened>) -> wasmtime::Result<()> {
        self.table.delete(bucket)?;
        Ok(())
    }
}

impl atomics::Host for HostState {
    fn increment(&mut self, bucket: Resource<Opened>, key: String, by: u64) -> Answer<u64> {
        Ok(self.bucket(&bucket)?.increment(&key, by).map_err(Error::from))
    }
}

impl batch::Host for HostState {
    fn get_many(
        &mut self,
        bucket: Resource<Opened>,
        keys: Vec<String>,
    ) -> Answer<Vec<Option<(String, Vec<u8>)>>> {
        let bucket = self.bucket(&bucket)?;
        let mut found = Vec::with_capacity(keys.len());
        // The same key may be asked for any number of times.
        let mut bytes = 0;
        for key in keys {
            let value = bucket.get(&key);
            bytes += value.as_ref().map_or(0, |value| key.len() + value.len());
            if bytes > TOTAL {
                let most = format!("an answer has at most {TOTAL} bytes; ask for fewer keys");
                return Ok(Err(Error::Other(most)));
            }
            found.push(value.map(|value| (key, Vec::from(value))));
        }
        Ok(Ok(found))
    }

    fn set_many(&mut self, bucket: Resource<Opened>, values: Vec<(String, Vec<u8>)>) -> Answer<()> {
        let bucket = self.bucket(&bucket)?;
        for (key, value) in values {
            if let Err(full) = bucket.set(&key, value) {
                return Ok(Err(full.into()));
            }
        }
        Ok(Ok(()))
    }

    fn delete_many(&mut self, bucket: Resource<Opened>, keys: Vec<String>) -> Answer<()> {
        let bucket = self.bucket(&bucket)?;
        for key in keys {
            bucket.delete(&key);
        }
        Ok(Ok(()))
    }
}
