//! The Clerk over TCP, for programs that do not use tokio. Must not decide anything: it waits for the other carrier.

use std::io;
use std::time::Duration;

use bytes::Bytes;
use tokio::runtime::{Builder, Runtime};

use crate::event::Config;
use crate::message::{Failure, Operation, Reply};
use crate::tcp;

/// The same as [`tcp::Clerk`], but each call blocks its thread until it ends.
///
/// It brings a runtime of its own that runs on the calling thread, during calls only. On a thread that already runs
/// a runtime its methods panic: use [`tcp::Clerk`] there.
#[derive(Debug)]
pub struct Clerk {
    clerk: tcp::Clerk,
    // Last: what runs on it is dropped before it.
    runtime: Runtime,
}

impl Clerk {
    /// A Clerk for the cluster of these servers, each as host and port. Nothing is dialled before the first call.
    ///
    /// # Errors
    /// The system gives no more of what a runtime needs, such as file descriptors.
    ///
    /// # Panics
    /// If no server is named.
    pub fn connect<S: Into<String>>(servers: impl IntoIterator<Item = S>) -> io::Result<Self> {
        Self::with_config(Config::new(servers))
    }

    /// A Clerk that is set otherwise than by default.
    ///
    /// # Errors
    /// The system gives no more of what a runtime needs, such as file descriptors.
    ///
    /// # Panics
    /// If no server is named.
    pub fn with_config(config: Config) -> io::Result<Self> {
        let runtime = Builder::new_current_thread().enable_io().enable_time().build()?;
        let clerk = {
            let _entered = runtime.enter();
            tcp::Clerk::with_config(config)
        };
        Ok(Self { clerk, runtime })
    }

    /// Sets a value.
    ///
    /// # Errors
    /// It did not run, or it may have: the failure says which.
    pub fn put(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        timeout: Duration,
    ) -> Result<(), Failure> {
        self.runtime.block_on(self.clerk.put(key, value, timeout))
    }

    /// Adds to the end of a value; the length after it, in bytes.
    ///
    /// # Errors
    /// It did not run, or it may have: the failure says which.
    pub fn append(
        &self,
        key: impl Into<Bytes>,
        value: impl Into<Bytes>,
        timeout: Duration,
    ) -> Result<u64, Failure> {
        self.runtime.block_on(self.clerk.append(key, value, timeout))
    }

    /// Removes a value; whether there was one.
    ///
    /// # Errors
    /// It did not run, or it may have: the failure says which.
    pub fn delete(&self, key: impl Into<Bytes>, timeout: Duration) -> Result<bool, Failure> {
        self.runtime.block_on(self.clerk.delete(key, timeout))
    }

    /// Reads a value.
    ///
    /// # Errors
    /// No server answered within the time, or one refused for good.
    pub fn get(&self, key: impl Into<Bytes>, timeout: Duration) -> Result<Option<Bytes>, Failure> {
        self.runtime.block_on(self.clerk.get(key, timeout))
    }

    /// Ends the session, so that the cluster may forget it: a short-lived program does so before it exits. Where a write
    /// is under way or in doubt nothing happens.
    ///
    /// # Errors
    /// The session stays until it expires.
    pub fn close(&self, timeout: Duration) -> Result<(), Failure> {
        self.runtime.block_on(self.clerk.close(timeout))
    }

    /// Any operation.
    ///
    /// # Errors
    /// It did not run, or it may have: the failure says which.
    pub fn call(&self, operation: Operation, timeout: Duration) -> Result<Reply, Failure> {
        self.runtime.block_on(self.clerk.call(operation, timeout))
    }
}
