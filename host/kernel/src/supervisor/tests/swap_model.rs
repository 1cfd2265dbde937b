//! A model checker for the hot swap: every order of events over the real tasks
//! of a service's replicas, with the real machines, inbox and leases in them.
//!
//! Of the world only the versions are made up: a [`Puppet`] does what it is
//! told. A task is let run when an event is for it, so that what one replica
//! knows reaches the other at any later time.
//!
//! A state cannot be cloned, so it is reached by replaying the events that lead
//! to it; two paths to states that look the same are one. With the bounds of
//! each [`Scope`] the whole space is explored, to its end.
//!
//! The last test deletes one guard after the other and shows that each is
//! missed: a model that cannot fail proves nothing.

use std::collections::{BTreeMap, HashSet, VecDeque};
use std::future::{Future, poll_fn};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use bytes::Bytes;
use futures_util::task::noop_waker;
use parking_lot::Mutex;
use tokio::runtime::Runtime;
use tokio::sync::{mpsc, oneshot};
use tokio::time::Instant;

use crate::crash::CrashReason;
use crate::health::Status;
use crate::kernel::Kernel;
use crate::message::{Address, Inbox, Message, Outcome, SeatId, Work};
use crate::service::{self, Crash, SavedState, Service, ServiceId};
use crate::supervisor::alarm::Alarm;
use crate::supervisor::crash_log::CrashLog;
use crate::supervisor::cutover::Parked;
use crate::supervisor::incarnation::Recipe;
use crate::supervisor::machine::{self, State};
use crate::supervisor::probation;
use crate::supervisor::run::Task;
use crate::supervisor::spec::Amendment;
use crate::supervisor::swap::{Action, Input, Phase, Word};
use crate::supervisor::{
    Command, Cut, Restart, ServiceSpec, Shared, Standing, SwapError, SwapOptions, prepared,
};

/// Longer than any probation; the first deadline of a handover is shorter.
const HOUR: Duration = Duration::from_secs(3600);
const HANDOVER: Duration = Duration::from_secs(10);
/// What a message is delivered so often before it is a dead letter.
const DELIVERIES: u32 = 2;

/// Bounds of an exploration.
#[derive(Clone, Copy, Debug)]
struct Scope {
    replicas: usize,
    messages: u64,
    swaps: u32,
    crashes: u32,
    /// Wishes from outside: to put back, to restart, to amend.
    wishes: u32,
}

/// One replica, all orders of messages.
const ALONE: Scope = Scope { replicas: 1, messages: 2, swaps: 1, crashes: 2, wishes: 0 };
/// One replica that is told something meanwhile.
const TOLD_ALONE: Scope = Scope { replicas: 1, messages: 1, swaps: 1, crashes: 1, wishes: 1 };
/// One replica, one swap after another.
const AGAIN: Scope = Scope { replicas: 1, messages: 1, swaps: 2, crashes: 2, wishes: 0 };
/// Two that are swapped together.
const TOGETHER: Scope = Scope { replicas: 2, messages: 1, swaps: 1, crashes: 1, wishes: 0 };
/// Two that are told something meanwhile.
const TOLD: Scope = Scope { replicas: 2, messages: 0, swaps: 1, crashes: 1, wishes: 1 };
/// Two, one swap after another.
const TOGETHER_AGAIN: Scope = Scope { replicas: 2, messages: 0, swaps: 2, crashes: 1, wishes: 0 };

/// What may happen next, as far as it makes sense in a state. A number says to
/// which replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    Publish,
    /// Somebody wants a swap; says to cut over; loses interest.
    Begin,
    Cut,
    GiveUp,
    /// A wish for the whole service.
    PutBack,
    Restart,
    Stop,
    Start,
    Amend,
    /// Time passes: for the deadline of a handover, or for every alarm.
    HandoverPasses,
    HourPasses,
    /// The task is let run.
    Runs(usize),
    /// A version does something when its task is let run.
    Does(usize, Who, Order),
}

/// Which incarnation of a replica.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Who {
    Current,
    Next,
    Parked,
}

/// What an incarnation does when it is polled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Order {
    Start,
    /// Looks at its lease: takes a message, or what is asked.
    Look,
    Handle,
    Retry,
    /// Answers with a state, without one, or that it cannot.
    Save,
    HasNoState,
    CannotSave,
    /// Reads the state, or refuses it.
    Restore,
    Refuse,
    Fail,
    Die,
    End,
}

/// A guard that is deleted, to see that it is missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Without {
    Nothing,
    /// Cutting over does not wait for what is in flight.
    Pause,
    /// A refused swap does not let the old version go on.
    Resume,
    /// A question that is not wanted any more is not withdrawn.
    Withdraw,
    /// Cutting over does not wait for the state to be read.
    Restored,
    /// A bad version is ended, and the parked one is not put back.
    PutBack,
    /// The parked version comes back under the generation it had.
    Growth,
    /// The parked version goes on taking messages.
    Parking,
    /// A replica whose version is bad goes back alone.
    Siblings,
    /// A replica whose time is over commits alone.
    Patience,
    /// What is tried on probation counts against a message.
    Pardon,
}

/// What a task does instead of an action.
pub(in crate::supervisor) type Tamper = Box<dyn Fn(&mut Task, Action) -> Option<Action> + Send>;

/// The strings of one incarnation.
#[derive(Debug, Default)]
struct Hand {
    orders: VecDeque<Order>,
    taken: Vec<u64>,
    in_flight: usize,
    /// It was asked to pause, or to read a state, and has not answered.
    pauses: bool,
    restores: bool,
    /// It read what was handed over to it, or nothing was.
    has_state: bool,
    interrupted: bool,
    fails: bool,
}

/// What all incarnations of a world share.
#[derive(Debug, Default)]
struct Stage {
    hands: BTreeMap<u64, (SeatId, Arc<Mutex<Hand>>)>,
    handled: Vec<u64>,
}

struct Puppet {
    number: Option<u64>,
    stage: Arc<Mutex<Stage>>,
}

impl Service for Puppet {
    async fn run(&mut self, context: &mut service::Context) -> Result<(), Crash> {
        let hand = Arc::new(Mutex::new(Hand { has_state: true, ..Hand::default() }));
        {
            let mut stage = self.stage.lock();
            let number = stage.hands.last_key_value().map_or(0, |(last, _)| last + 1);
            self.number = Some(number);
            stage.hands.insert(number, (context.lease.seat(), Arc::clone(&hand)));
        }
        poll_fn(|cx| {
            let mut hand = hand.lock();
            while let Some(order) = hand.orders.pop_front() {
                if let Some(end) = self.obey(&mut hand, order, context, cx) {
                    return Poll::Ready(end);
                }
            }
            (hand.taken, hand.in_flight) = context.lease.look();
            hand.interrupted = context.lease.interrupted();
            Poll::Pending
        })
        .await
    }
}

impl Puppet {
    fn obey(
        &self,
        hand: &mut Hand,
        order: Order,
        context: &mut service::Context,
        cx: &mut Context<'_>,
    ) -> Option<Result<(), Crash>> {
        let lease = &mut context.lease;
        match order {
            Order::Start => context.started(),
            Order::Look => match lease.poll_next(cx) {
                Poll::Ready(Work::Messages) => drop(lease.begin().is_some()),
                Poll::Ready(Work::Pause { .. }) => hand.pauses = true,
                Poll::Ready(Work::Restore(_)) => {
                    hand.restores = true;
                    hand.has_state = false;
                }
                Poll::Ready(Work::Stop) => return Some(Ok(())),
                Poll::Ready(Work::Event(_)) | Poll::Pending => {}
            },
            Order::Handle => {
                self.stage.lock().handled.push(lease.in_flight()[0].id);
                lease.conclude(Outcome::Handled);
            }
            Order::Retry => lease.conclude(Outcome::Retry("again".into())),
            Order::Save | Order::HasNoState | Order::CannotSave => {
                hand.pauses = false;
                lease.paused(match order {
                    Order::Save => Ok(Some(SavedState { schema: 1, bytes: Bytes::new() })),
                    Order::HasNoState => Ok(None),
                    _ => Err("no".into()),
                });
            }
            Order::Restore => {
                (hand.restores, hand.has_state) = (false, true);
                lease.restored(Ok(()));
            }
            Order::Refuse => {
                hand.restores = false;
                lease.restored(Err("no".into()));
            }
            Order::Fail => {
                hand.fails = true;
                context.handle().report_health(Status::Failing, None);
            }
            Order::Die => return Some(Err(CrashReason::panic("told to die").into())),
            // What is in flight counts as handled then.
            Order::End => {
                let ids = lease.in_flight().iter().map(|message| message.id);
                self.stage.lock().handled.extend(ids);
                return Some(Ok(()));
            }
        }
        None
    }
}

impl Drop for Puppet {
    fn drop(&mut self) {
        if let Some(number) = self.number {
            self.stage.lock().hands.remove(&number);
        }
    }
}

/// Whoever wants a swap.
type Driver = Pin<Box<dyn Future<Output = Result<Cut, SwapError>>>>;

struct World<'r> {
    scope: Scope,
    runtime: &'r Runtime,
    stage: Arc<Mutex<Stage>>,
    inbox: Arc<Inbox>,
    tasks: Vec<Task>,
    commands: Vec<mpsc::Sender<Command>>,
    /// What was said of the service last.
    spec: ServiceSpec,
    driver: Option<Driver>,
    /// Tells the driver to cut over.
    go: Option<oneshot::Sender<()>>,
    cut: Option<Cut>,
    published: u64,
    begun: u32,
    crashes: u32,
    wishes: u32,
    stopped: bool,
    amended: bool,
    /// How often each message was failed at by a version that was not on probation,
    /// or given back by one that was.
    failed: BTreeMap<u64, u32>,
    generations: Vec<u64>,
}

/// What holds of a service whose version is `version`, but for amendments.
fn spec(scope: Scope, version: u32) -> ServiceSpec {
    let mut spec = ServiceSpec::new(ServiceId::parse("svc").expect("a name"));
    spec.replicas = scope.replicas;
    spec.version = version.to_string().into();
    spec.restart = Restart { budget: u32::MAX, first_delay: Duration::ZERO, ..Restart::default() };
    spec.mailbox.max_deliveries = DELIVERIES;
    spec.mailbox.bytes = version as usize * 1000;
    spec.probation = HOUR;
    spec.deadlines.start = 100 * HOUR;
    spec.deadlines.stop = 100 * HOUR;
    spec.deadlines.handover = HANDOVER;
    spec
}

fn recipe(version: u32, stage: &Arc<Mutex<Stage>>) -> Recipe {
    let stage = Arc::clone(stage);
    let make = move || Puppet { number: None, stage: Arc::clone(&stage) };
    Recipe::new(version.to_string().into(), make)
}

impl<'r> World<'r> {
    fn new(scope: Scope, without: Without, runtime: &'r Runtime, kernel: &Kernel) -> Self {
        let spec = spec(scope, 1);
        let inbox = Inbox::new(spec.id.clone(), spec.mailbox);
        kernel.router().add(Arc::clone(&inbox));
        let standings = Standing::new(
            spec.id.clone(),
            scope.replicas,
            false,
            kernel.bus().clone(),
            kernel.metrics().clone(),
            kernel.health().clone(),
            Arc::<CrashLog>::default(),
        );
        let stage = Arc::<Mutex<Stage>>::default();
        let (mut tasks, mut commands) = (vec![], vec![]);
        for standing in standings {
            let (sender, receiver) = mpsc::channel(16);
            let mut task = Task::new(
                kernel.clone(),
                Arc::<Shared>::default(),
                spec.clone(),
                Arc::clone(&inbox),
                standing,
                receiver,
                recipe(1, &stage),
            );
            task.tamper = match without {
                Without::Nothing => None,
                _ => Some(Box::new(move |task: &mut Task, action| tamper(without, task, action))),
            };
            task.take(machine::Input::Start);
            tasks.push(task);
            commands.push(sender);
        }
        let mut world = Self {
            scope,
            runtime,
            stage,
            inbox,
            tasks,
            commands,
            spec,
            driver: None,
            go: None,
            cut: None,
            published: 0,
            begun: 0,
            crashes: 0,
            wishes: 0,
            stopped: false,
            amended: false,
            failed: BTreeMap::new(),
            generations: vec![0; scope.replicas],
        };
        for replica in 0..scope.replicas {
            world.run(replica);
            world.order(replica, Who::Current, Order::Start);
            world.run(replica);
        }
        world
    }

    fn seat(&self, replica: usize, who: Who) -> Option<SeatId> {
        let task = &self.tasks[replica];
        match who {
            Who::Current => task.current.as_ref().map(|current| current.seat),
            Who::Next => task.next.as_ref().map(|next| next.incarnation.seat),
            Who::Parked => task.parked.as_ref().and_then(Parked::look).map(|old| old.seat),
        }
    }

    fn hand_at(&self, seat: SeatId) -> Option<Arc<Mutex<Hand>>> {
        let stage = self.stage.lock();
        stage.hands.values().find(|(at, _)| *at == seat).map(|(_, hand)| Arc::clone(hand))
    }

    fn hand(&self, replica: usize, who: Who) -> Option<Arc<Mutex<Hand>>> {
        self.hand_at(self.seat(replica, who)?)
    }

    fn order(&self, replica: usize, who: Who, order: Order) {
        let hand = self.hand(replica, who).expect("it was looked for");
        hand.lock().orders.push_back(order);
    }

    /// Lets a task run until it waits, and after it whoever wants a swap.
    fn run(&mut self, replica: usize) {
        let waker = noop_waker();
        let cx = &mut Context::from_waker(&waker);
        loop {
            while let Poll::Ready(more) = self.tasks[replica].turn(cx) {
                assert!(more, "nobody ends it");
            }
            // A version that was replaced for good stops when it is asked to.
            let Some(retiring) = &self.tasks[replica].retiring else { break };
            let hand = self.hand_at(retiring.seat).expect("it lives");
            hand.lock().orders.push_back(Order::Look);
        }
        self.drive();
    }

    fn drive(&mut self) {
        let waker = noop_waker();
        let cx = &mut Context::from_waker(&waker);
        if let Some(driver) = &mut self.driver
            && let Poll::Ready(done) = driver.as_mut().poll(cx)
        {
            self.driver = None;
            self.go = None;
            if let Ok(cut) = done {
                self.spec = with_version(&self.spec, self.begun + 1);
                self.cut = Some(cut);
            }
        }
    }

    fn tell(&self, command: impl Fn() -> Command) {
        for commands in &self.commands {
            commands.try_send(command()).expect("there is room");
        }
    }

    /// What may happen.
    fn possible(&self) -> Vec<Event> {
        let Scope { replicas, messages, swaps, crashes, wishes } = self.scope;
        let mut events = vec![];
        // With two replicas and wishes or swaps, one way to go wrong is enough.
        let crashes = self.crashes < crashes;
        let faults = crashes && (replicas == 1 || wishes == 0 && swaps == 1);
        let mut when = |holds: bool, event: Event| holds.then(|| events.push(event));
        let on_the_way = self.tasks.iter().any(|task| task.swap.phase() != &Phase::Steady);
        when(self.published < messages, Event::Publish);
        when(self.begun < swaps && self.driver.is_none(), Event::Begin);
        when(self.go.is_some(), Event::Cut);
        when(self.driver.is_some() && on_the_way, Event::GiveUp);
        when(self.wishes < wishes && on_the_way, Event::PutBack);
        when(self.wishes < wishes && on_the_way, Event::Restart);
        when(self.wishes < wishes && !self.stopped, Event::Stop);
        when(self.stopped, Event::Start);
        // One that is being prepared brings its own rules.
        let settled = |task: &Task| {
            task.swap.phase() == &Phase::Steady || is_after_the_cut(task.swap.phase())
        };
        let prepares = self.driver.is_some() || !self.tasks.iter().all(settled);
        when(self.wishes < wishes && on_the_way && !prepares, Event::Amend);
        let is_set = |alarm| self.tasks.iter().any(|task| task.alarms.at(alarm).is_some());
        when(is_set(Alarm::Handover), Event::HandoverPasses);
        when(is_set(Alarm::Probation), Event::HourPasses);
        for replica in 0..replicas {
            when(true, Event::Runs(replica));
            for who in [Who::Current, Who::Next, Who::Parked] {
                let Some(hand) = self.hand(replica, who) else { continue };
                let hand = hand.lock();
                let starts = match who {
                    Who::Current => self.tasks[replica].life.state() == &State::Starting,
                    Who::Next => self.tasks[replica].swap.phase() == &Phase::Preparing,
                    Who::Parked => false,
                };
                let phase = self.tasks[replica].swap.phase();
                let looks = match who {
                    Who::Current => !starts && hand.in_flight == 0,
                    Who::Next => phase == &Phase::Restoring,
                    Who::Parked => matches!(phase, Phase::Returning { .. }),
                };
                let asked = hand.pauses || hand.restores;
                let mut does = |holds: bool, order| when(holds, Event::Does(replica, who, order));
                does(starts, Order::Start);
                does(looks && !asked, Order::Look);
                does(hand.in_flight > 0, Order::Handle);
                does(hand.in_flight > 0 && faults, Order::Retry);
                does(hand.pauses, Order::Save);
                does(hand.pauses && replicas == 1, Order::HasNoState);
                does(hand.pauses && faults, Order::CannotSave);
                does(hand.restores, Order::Restore);
                let refuses = hand.restores && who == Who::Next;
                does(refuses && replicas == 1, Order::Refuse);
                let fails = matches!(phase, Phase::Probation { .. }) && who == Who::Current;
                does(fails && !hand.fails && !starts && faults, Order::Fail);
                let dies = who != Who::Parked || matches!(phase, Phase::Returning { .. });
                does(dies && crashes, Order::Die);
                does(fails && faults && messages > 0, Order::End);
            }
        }
        events
    }

    fn apply(&mut self, event: Event) {
        match event {
            Event::Publish => {
                self.published += 1;
                let message = Message::new(self.published, Address::any(), Bytes::new());
                assert!(self.inbox.push(message));
            }
            Event::Begin => self.begin(),
            Event::Cut => {
                let _ = self.go.take().expect("it waits for it").send(());
                self.drive();
            }
            Event::GiveUp => {
                self.driver = None;
                self.go = None;
            }
            Event::PutBack => {
                self.wishes += 1;
                self.tell(|| Command::PutBack("another service failed".into()));
            }
            Event::Restart => {
                self.wishes += 1;
                self.tell(|| Command::Restart);
            }
            Event::Stop => {
                self.wishes += 1;
                self.stopped = true;
                self.tell(|| Command::Stop);
            }
            Event::Start => {
                self.stopped = false;
                self.tell(|| Command::Start);
            }
            Event::Amend => {
                self.wishes += 1;
                self.amended = true;
                let before = self.spec.clone();
                self.spec.mailbox.messages = 7;
                let after = self.spec.clone();
                let amendment = Arc::new(Amendment { before, after });
                self.tell(|| Command::Amend(Arc::clone(&amendment)));
            }
            Event::HandoverPasses => self.pass(HANDOVER),
            Event::HourPasses => self.pass(HOUR),
            Event::Runs(replica) => self.run(replica),
            Event::Does(replica, who, order) => self.does(replica, who, order),
        }
    }

    fn begin(&mut self) {
        self.begun += 1;
        let version = self.begun + 1;
        let stage = Arc::clone(&self.stage);
        let spec = Some(Box::new(with_version(&self.spec, version)));
        let options = SwapOptions { force: true, spec, ..SwapOptions::default() };
        let (go, told) = oneshot::channel();
        let (service, commands) = (self.spec.id.clone(), self.commands.clone());
        self.driver = Some(Box::pin(async move {
            let make = || recipe(version, &stage);
            let shared = Arc::<Shared>::default();
            let prepared = prepared::prepare_all(shared, service, commands, make, options).await?;
            // Whoever sends it is dropped with this.
            let _ = told.await;
            prepared.cut().await
        }));
        self.go = Some(go);
        self.drive();
    }

    fn pass(&self, time: Duration) {
        self.runtime.block_on(tokio::time::advance(time));
    }

    fn does(&mut self, replica: usize, who: Who, order: Order) {
        let hand = self.hand(replica, who).expect("it is possible");
        let in_flight = {
            let hand = hand.lock();
            hand.taken.get(..hand.in_flight).and_then(|begun| begun.first().copied())
        };
        let on_probation =
            who == Who::Current && is_after_the_cut(self.tasks[replica].swap.phase());
        match order {
            Order::Die | Order::Fail | Order::End | Order::Retry | Order::CannotSave => {
                self.crashes += 1;
            }
            _ => {}
        }
        if let (Order::Retry, Some(id)) | (Order::Die, Some(id)) = (order, in_flight)
            && (order == Order::Retry || !on_probation)
        {
            *self.failed.entry(id).or_default() += 1;
        }
        self.order(replica, who, order);
        self.run(replica);
    }

    /// What holds in every state.
    fn check(&mut self) -> Result<(), String> {
        let fail = |what: &str| Err(what.to_owned());
        let stats = self.inbox.stats();
        if !stats.balances() {
            return fail("the mailbox's accounts do not balance");
        }
        let (active, queued) = self.inbox.look();
        if active.len() > self.scope.replicas {
            return fail("the mailbox has too many owners");
        }
        let serves = |replica| self.seat(replica, Who::Current);
        if active.iter().any(|seat| !(0..self.scope.replicas).any(|r| serves(r) == Some(*seat))) {
            return fail("the mailbox's owner does not serve");
        }
        for replica in 0..self.scope.replicas {
            self.check_replica(replica, &active)?;
        }
        // Handled, then taken, then queued: each message once; where one takes
        // them, in order.
        let stage = self.stage.lock();
        let mut all = stage.handled.clone();
        for (_, hand) in stage.hands.values() {
            all.extend(hand.lock().taken.iter().copied());
        }
        all.extend(queued);
        let dead: Vec<u64> =
            self.inbox.dead_letters().iter().map(|letter| letter.message.id).collect();
        if let Some(early) =
            dead.iter().find(|id| self.failed.get(id).is_none_or(|count| *count < DELIVERIES))
        {
            return Err(format!("{early} is a dead letter before its time"));
        }
        all.extend(dead);
        if self.scope.replicas > 1 || stats.dead_lettered > 0 {
            all.sort_unstable();
        }
        if !all.iter().copied().eq(1..=self.published) {
            return Err(format!("lost, repeated or reordered: {all:?} of {}", self.published));
        }
        drop(stage);
        for replica in 0..self.scope.replicas {
            let generation = self.tasks[replica].standing.generation().0;
            if std::mem::replace(&mut self.generations[replica], generation) > generation {
                return fail("generations do not grow");
            }
        }
        self.check_whole()
    }

    fn check_replica(&self, replica: usize, active: &[SeatId]) -> Result<(), String> {
        let fail = |what: &str| Err(what.to_owned());
        let task = &self.tasks[replica];
        let current = self.hand(replica, Who::Current);
        let after = is_after_the_cut(task.swap.phase());
        let version = &task.recipe.version;
        if let Some(current) = &current
            && matches!(task.swap.phase(), Phase::Probation { .. })
            && !current.lock().has_state
        {
            return fail("the next version serves without the state");
        }
        if task.current.is_some() && current.is_none() {
            return Ok(());
        }
        // What holds of a version goes with it, and an amendment stays.
        if task.spec.mailbox.bytes.to_string() != format!("{version}000") {
            return Err(format!("{version} has the rules of another version"));
        }
        if !after && task.parked.is_some() {
            return fail("there is no probation and a parked version");
        }
        if task.swap.phase() != &Phase::Steady || self.tasks_are_told() {
            return Ok(());
        }
        if self.amended && task.spec.mailbox.messages != 7 {
            return fail("what was said meanwhile is undone");
        }
        match (&current, task.life.state()) {
            (Some(hand), State::Running { .. }) => {
                let seat = self.seat(replica, Who::Current).expect("it lives");
                if !active.contains(&seat) && !hand.lock().pauses {
                    return fail("a version runs and nobody serves");
                }
                Ok(())
            }
            (None, State::Running { .. } | State::Starting | State::Draining { .. }) => {
                fail("no version is live, and none is started")
            }
            _ => Ok(()),
        }
    }

    fn tasks_are_told(&self) -> bool {
        self.commands.iter().any(|commands| commands.capacity() < commands.max_capacity())
    }

    /// What holds of all replicas together, when nothing is under way.
    fn check_whole(&self) -> Result<(), String> {
        let steady = |task: &Task| task.swap.phase() == &Phase::Steady;
        if self.driver.is_some() || self.tasks_are_told() || !self.tasks.iter().all(steady) {
            return Ok(());
        }
        let first = &self.tasks[0].recipe.version;
        if self.tasks.iter().any(|task| task.recipe.version != *first) {
            return Err("the replicas run different versions".into());
        }
        Ok(())
    }

    /// What tells two states apart.
    fn key(&self) -> String {
        use std::fmt::Write;
        let mut key = String::new();
        let now = Instant::now();
        for (replica, task) in self.tasks.iter().enumerate() {
            let phase = match task.swap.phase() {
                Phase::Probation { parked, .. } => format!("probation {parked}"),
                Phase::Retreating { parked, keep, .. } => format!("retreating {parked} {keep}"),
                Phase::Returning { .. } => "returning".to_owned(),
                other => format!("{other:?}"),
            };
            let decided = task.seat().and_then(probation::Seat::outcome).map(|outcome| {
                let keep = matches!(outcome, probation::Outcome::PutBack { keep: true, .. });
                let back = matches!(outcome, probation::Outcome::PutBack { .. });
                (back, keep)
            });
            let alarms =
                [Alarm::Handover, Alarm::Probation, Alarm::Backoff, Alarm::Next, Alarm::Current]
                    .map(|alarm| task.alarms.at(alarm).map(|at| at <= now));
            let _ = write!(
                key,
                "{phase} {decided:?} {} {} {} {} {:?} ",
                task.recipe.version,
                task.life.state().label(),
                self.commands[replica].capacity(),
                task.spec.mailbox.messages,
                alarms,
            );
            for who in [Who::Current, Who::Next, Who::Parked] {
                let hand = self.hand(replica, who);
                let _ = write!(key, "{who:?} {:?} ", hand.as_ref().map(|hand| hand.lock()));
            }
        }
        let (active, queued) = self.inbox.look();
        let attempts: Vec<_> = queued.iter().map(|id| self.failed.get(id)).collect();
        let _ = write!(
            key,
            "{} {queued:?} {attempts:?} {:?} {:?} {} {} {} {} {} {} {} {}",
            active.len(),
            self.stage.lock().handled,
            self.failed,
            self.published,
            self.begun,
            self.crashes,
            self.wishes,
            self.stopped,
            self.amended,
            self.driver.is_some(),
            self.go.is_some(),
        );
        key
    }
}

fn with_version(before: &ServiceSpec, version: u32) -> ServiceSpec {
    let mut spec = before.clone();
    spec.version = version.to_string().into();
    spec.mailbox.bytes = version as usize * 1000;
    spec
}

fn is_after_the_cut(phase: &Phase) -> bool {
    matches!(phase, Phase::Probation { .. } | Phase::Retreating { .. } | Phase::Returning { .. })
}

/// Does something else than what a task was about to do; gives back what is
/// left of that.
fn tamper(without: Without, task: &mut Task, action: Action) -> Option<Action> {
    let current = task.current.as_ref().map(|current| current.seat);
    match (without, &action) {
        (Without::Pause, Action::Pause { .. }) => task.swap_step(Input::Paused(Ok(false))),
        (Without::Resume, Action::Resume) => {}
        (Without::Withdraw, Action::Resume) => task.inbox.activate(current?),
        (Without::Restored, Action::Restore) => {
            task.act_untampered(action);
            task.swap_step(Input::Restored(Ok(())));
        }
        (Without::PutBack, Action::PutBack { .. }) => {
            drop(task.parked.take());
            drop(task.current.take());
        }
        (Without::Growth, Action::PutBack { .. }) => {
            let before =
                task.parked.as_ref().and_then(Parked::look).map(|old| old.turn.generation());
            task.act_untampered(action);
            task.standing.begin(before?, &task.recipe.version);
        }
        (Without::Parking, Action::CutOver) => {
            task.act_untampered(action);
            let parked = task.parked.as_ref().and_then(Parked::look).map(|old| old.seat);
            task.inbox.activate(parked?);
        }
        (Without::Siblings, Action::Say(Word::Failed(why))) => {
            let outcome = probation::Outcome::PutBack { why: why.clone(), keep: false };
            task.swap_step(Input::Decided { outcome, serves: task.serves() });
        }
        (Without::Patience, Action::Say(Word::Passed)) => {
            let outcome = probation::Outcome::Committed;
            task.swap_step(Input::Decided { outcome, serves: task.serves() });
        }
        (Without::Pardon, Action::CutOver) => {
            task.act_untampered(action);
            let seat = task.current.as_ref().map(|current| current.seat);
            task.inbox.set_on_probation(seat?, false);
        }
        _ => return Some(action),
    }
    None
}

/// Explores everything. Gives the number of states, or a path to a state in
/// which something does not hold.
fn explore(scope: Scope, without: Without) -> Result<usize, String> {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_time()
        .start_paused(true)
        .build()
        .expect("a runtime");
    let _inside = runtime.enter();
    let kernel = Kernel::new();
    let new = || World::new(scope, without, &runtime, &kernel);
    let mut seen = HashSet::from([new().key()]);
    let mut frontier = VecDeque::from([Vec::new()]);
    while let Some(path) = frontier.pop_front() {
        let replay = || {
            let mut world = new();
            path.iter().for_each(|event| world.apply(*event));
            let _ = world.check();
            world
        };
        for event in replay().possible() {
            let mut world = replay();
            world.apply(event);
            let path = || path.iter().copied().chain([event]).collect::<Vec<Event>>();
            world.check().map_err(|what| format!("{what}, after {:?}", path()))?;
            if seen.insert(world.key()) {
                frontier.push_back(path());
            }
        }
    }
    Ok(seen.len())
}

#[test]
fn no_order_of_events_loses_repeats_or_reorders_a_message() {
    for (scope, least) in [(ALONE, 1000), (TOLD_ALONE, 1000), (AGAIN, 1000)] {
        let began = std::time::Instant::now();
        let states = explore(scope, Without::Nothing).unwrap_or_else(|what| panic!("{what}"));
        println!("{states} states of {scope:?} {:?}", began.elapsed());
        assert!(states > least, "{states} states are not all");
    }
}

#[test]
fn no_order_of_events_leaves_replicas_at_different_versions() {
    for scope in [TOGETHER, TOLD, TOGETHER_AGAIN] {
        let began = std::time::Instant::now();
        let states = explore(scope, Without::Nothing).unwrap_or_else(|what| panic!("{what}"));
        println!("{states} states of {scope:?} {:?}", began.elapsed());
        assert!(states > 1000, "{states} states are not all");
    }
}

#[test]
fn each_guard_is_missed() {
    for (scope, without, expected) in [
        (ALONE, Without::Pause, "owner"),
        (ALONE, Without::Resume, "nobody serves"),
        (ALONE, Without::Withdraw, "nobody serves"),
        (ALONE, Without::Restored, "without the state"),
        (ALONE, Without::PutBack, "no version is live"),
        (ALONE, Without::Growth, "generations do not grow"),
        (ALONE, Without::Parking, "owner"),
        (TOGETHER, Without::Siblings, "different versions"),
        (TOGETHER, Without::Patience, "different versions"),
        (ALONE, Without::Pardon, "before its time"),
    ] {
        let what = explore(scope, without).expect_err("it is missed");
        assert!(what.contains(expected), "without {without:?}: {what}");
    }
}
