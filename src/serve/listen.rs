//! Accepts connections until the end.

use std::io;
use std::sync::Arc;
use std::time::Duration;

use tokio::task::{JoinError, JoinHandle, JoinSet};
use tokio::time::{sleep, timeout};

use super::bearer::Tokens;
use super::bind::Listener;
use super::connection::Connections;
use super::crowd::Crowd;
use super::guard::Guard;
use super::hosts::Hosts;
use super::notify::Notifier;
use super::options::{Address, Limits, Phase, ServeError, ServeOptions, Stop};
use super::socket::Socket;
use super::state::State;
use super::{panics, routes};

/// How long nothing is accepted after the system had no more descriptors or memory.
const SHORTAGE: Duration = Duration::from_millis(20);
/// How long answers that were cut short have for their last words.
const LAST_WORDS: Duration = Duration::from_secs(2);

/// Requests that are turned into tokens at once.
const PREPARING: usize = 4;

/// Makes sure that a server can listen where it should and may, that its tokens can be read and its names are names: what is wrong is said
/// before a model is loaded.
///
/// # Errors
/// As [`serve`].
pub fn check(options: &ServeOptions) -> Result<(), ServeError> {
    options.token_file.as_deref().map(Tokens::read).transpose()?;
    options.hosts.iter().try_for_each(|name| Hosts::check_name(name).map(drop))?;
    Listener::check(options)
}

/// Serves until it is told to stop; `on_ready` is called once connections are accepted.
///
/// # Errors
/// If it cannot listen where it should, or may not, or the tokens cannot be read.
pub fn serve(
    state: State,
    options: &ServeOptions,
    on_ready: impl FnOnce(&Address),
) -> Result<(), ServeError> {
    let tokens = options.token_file.as_deref().map(Tokens::read).transpose()?;
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_io()
        .enable_time()
        .max_blocking_threads(PREPARING)
        .build();
    let runtime = runtime.map_err(ServeError::Runtime)?;
    let state = Arc::new(state);
    let served = runtime.block_on(async {
        let (listener, address) = Listener::bind(options)?;
        let guard = Guard {
            hosts: Hosts::new(&address, &options.hosts)?,
            tokens,
            router: routes::router(Arc::clone(&state)),
            metrics: Arc::clone(&state.metrics),
            limits: options.limits,
            bodies: Crowd::new(options.limits.connections),
        };
        on_ready(&address);
        let notifier = Notifier::of_environment().map(Arc::new);
        tell(notifier.as_deref(), "READY=1");
        let watchdog =
            notifier.clone().map(|notifier| tokio::spawn(keep_alive(notifier, Arc::clone(&state))));
        let on_end = || tell(notifier.as_deref(), "STOPPING=1");
        run(listener, guard, &options.stop, on_end, || state.cancel_all()).await;
        watchdog.inspect(JoinHandle::abort);
        Ok(())
    });
    // Work that is still done for nobody is not waited for.
    runtime.shutdown_background();
    served
}

/// Serves connections until the end. Answers that take too long then are cut short by `cut`.
pub(super) async fn run(
    listener: Listener,
    guard: Guard,
    stop: &Stop,
    on_end: impl FnOnce(),
    cut: impl Fn(),
) {
    let limits = guard.limits;
    let mut tasks = JoinSet::new();
    let connections = Arc::new(Connections::new(guard));
    accept(listener, &connections, &mut tasks, stop).await;
    on_end();
    connections.heads.send_all_away();
    end(&mut tasks, stop, &limits, cut).await;
}

/// Accepts connections until the end begins.
async fn accept(listener: Listener, connections: &Arc<Connections>, tasks: &mut JoinSet<()>, stop: &Stop) {
    let mut stopped = std::pin::pin!(stop.reached(Phase::Ending));
    loop {
        tokio::select! {
            biased;
            () = &mut stopped => return,
            accepted = listener.accept() => match accepted {
                Ok(socket) => begin(socket, connections, tasks),
                Err(error) => make_room(&error, connections).await,
            },
            Some(ended) = tasks.join_next() => ended_with(&ended),
        }
    }
}

/// Counts a connection that ended in a failure of the program.
fn ended_with(ended: &Result<(), JoinError>) {
    if ended.as_ref().is_err_and(JoinError::is_panic) {
        panics::caught();
    }
}

/// Begins to serve a connection.
fn begin(socket: Socket, connections: &Arc<Connections>, tasks: &mut JoinSet<()>) {
    // Here too, as there may be new ones all the time.
    while let Some(ended) = tasks.try_join_next() {
        ended_with(&ended);
    }
    let member = connections.heads.enter();
    tasks.spawn(Arc::clone(connections).serve(socket, member));
}

/// Does what lets the next connection be accepted: one that asks for nothing is cut, and the system gets some time.
async fn make_room(error: &io::Error, connections: &Connections) {
    use io::ErrorKind::{ConnectionAborted, ConnectionReset, Interrupted};
    if !matches!(error.kind(), ConnectionAborted | ConnectionReset | Interrupted) {
        connections.heads.send_away(Duration::ZERO);
        sleep(SHORTAGE).await;
    }
}

/// Waits for answers under way, and cuts them short where they take too long.
async fn end(tasks: &mut JoinSet<()>, stop: &Stop, limits: &Limits, cut: impl Fn()) {
    let mut finish = async |time| {
        let all = async { while tasks.join_next().await.is_some() {} };
        tokio::select! {
            ended = timeout(time, all) => ended.is_ok(),
            () = stop.reached(Phase::Ended) => true,
        }
    };
    if !finish(limits.end_time).await {
        cut();
        finish(LAST_WORDS).await;
    }
    cut();
    tasks.abort_all();
}

fn tell(notifier: Option<&Notifier>, what: &str) {
    if let Some(notifier) = notifier {
        notifier.tell(what);
    }
}

/// Says that all is well as long as the engine goes on: one that is dead, or in the same step all the time, is a matter
/// for whoever started this process.
async fn keep_alive(notifier: Arc<Notifier>, state: Arc<State>) {
    let Some(interval) = notifier.interval() else { return };
    let mut before = None;
    loop {
        sleep(interval).await;
        let (load, steps) = (state.engine.load(), state.engine.steps());
        let is_stuck = load.running > 0 && before == Some(steps);
        if !is_stuck && !state.engine.is_dead() {
            notifier.tell("WATCHDOG=1");
        }
        before = Some(steps);
    }
}
