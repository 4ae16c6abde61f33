//! Supervised tasks: a task that must not end says so when it does.

use std::future::Future;

use tokio::task::{AbortHandle, JoinHandle};

/// Spawns `task` on the current runtime. A panic in it is logged with `name`; nothing else of the
/// process is touched. Aborting the handle ends the task.
pub fn spawn_supervised<F>(name: &'static str, task: F) -> JoinHandle<()>
where
    F: Future<Output = ()> + Send + 'static,
{
    tokio::spawn(async move {
        let inner = tokio::spawn(task);
        let _abort = AbortOnDrop(inner.abort_handle());
        if inner.await.is_err_and(|error| error.is_panic()) {
            tracing::error!(task = name, "a task panicked; its work has stopped");
        }
    })
}

struct AbortOnDrop(AbortHandle);

impl Drop for AbortOnDrop {
    fn drop(&mut self) {
        self.0.abort();
    }
}

#[cfg(test)]
mod tests {
    use tokio::sync::oneshot;

    use super::*;

    #[tokio::test]
    async fn aborting_the_handle_ends_the_task() {
        let (alive, ended) = oneshot::channel::<()>();
        let handle = spawn_supervised("test", async move {
            let _alive = alive;
            std::future::pending::<()>().await;
        });
        tokio::task::yield_now().await;
        handle.abort();
        assert!(ended.await.is_err());
    }
}
