use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

use turnkit_id::ExecutionId;

use super::{Execution, budget::Budget};
use crate::{
    Limits, Scope,
    limits::millis,
    log::{Bound, Usage},
    sync::lock,
};

/// What an execution is charged besides its frames, their index and its id: its own records.
pub(super) const EXECUTION: u64 = 512;

/// What a spent id is charged besides its own bytes.
pub(super) const BINDING: u64 = 128;

/// Which id of which scope is bound to what, and what has to go next.
///
/// Lock order: the table before a journal, never the other way round.
pub(super) struct Table {
    scopes: HashMap<Scope, ScopeTable>,
    server: Arc<Budget>,
    bytes_per_scope: u64,
    retention: u64,
    binding: u64,
}

/// The executions of one scope.
pub(super) struct ScopeTable {
    pub(super) budget: Arc<Budget>,
    server: Arc<Budget>,
    pub(super) bound: HashMap<ExecutionId, Bond>,
    /// Ended executions with the time of their end, the oldest first.
    ended: VecDeque<(u64, ExecutionId)>,
    /// Spent ids with the time when their events went, the oldest first.
    spent: VecDeque<(u64, ExecutionId)>,
}

/// What an id is bound to.
#[derive(Clone)]
pub(super) enum Bond {
    Log(Arc<Execution>),
    Spent,
}

impl Table {
    pub(super) fn new(limits: &Limits, server: Arc<Budget>) -> Self {
        Self {
            scopes: HashMap::new(),
            server,
            bytes_per_scope: limits.bytes_per_scope,
            retention: millis(limits.retention),
            binding: millis(limits.binding),
        }
    }

    pub(super) fn find(&self, scope: &Scope, id: &ExecutionId) -> Option<Bond> {
        self.scopes.get(scope)?.bound.get(id).cloned()
    }

    /// The scope's table, made on first use.
    pub(super) fn scope(&mut self, scope: &Scope) -> &mut ScopeTable {
        let (limit, server) = (self.bytes_per_scope, &self.server);
        let make = || ScopeTable::new(limit, Arc::clone(server));
        self.scopes.entry(scope.clone()).or_insert_with(make)
    }

    /// Takes `bytes` from both budgets, ended executions making room, the oldest first.
    pub(super) fn charge(&mut self, scope: &Scope, bytes: u64, now: u64) -> Result<(), Bound> {
        loop {
            let budget = &self.scope(scope).budget.clone();
            let Err(bound) = charge(budget, &self.server, bytes) else {
                return Ok(());
            };
            if !self.make_room(scope, bound, now) {
                return Err(bound);
            }
        }
    }

    /// From now on `id` counts as ended.
    pub(super) fn ended(&mut self, scope: &Scope, id: &ExecutionId, now: u64) {
        self.scope(scope).ended.push_back((now, id.clone()));
    }

    /// Makes `id` a spent one, whatever it was bound to. It must not run.
    pub(super) fn erase(&mut self, scope: &Scope, id: &ExecutionId, now: u64) {
        let server = Arc::clone(&self.server);
        let table = self.scope(scope);
        match table.bound.get(id) {
            Some(Bond::Spent) => {}
            Some(Bond::Log(_)) => {
                table.ended.retain(|(_, ended)| ended != id);
                table.drop_events(id.clone(), now);
            }
            None => {
                // A binding always fits: it keeps a run from starting.
                let bytes = BINDING + id_bytes(id);
                server.force(bytes);
                table.budget.force(bytes);
                table.bound.insert(id.clone(), Bond::Spent);
                table.spent.push_back((now, id.clone()));
            }
        }
    }

    pub(super) fn sweep_scope(&mut self, scope: &Scope, now: u64) {
        let (retention, binding) = (self.retention, self.binding);
        if let Some(table) = self.scopes.get_mut(scope) {
            table.sweep(now, retention, binding);
        }
    }

    pub(super) fn sweep(&mut self, now: u64) {
        for table in self.scopes.values_mut() {
            table.sweep(now, self.retention, self.binding);
        }
    }

    pub(super) fn usage(&self, scope: Option<&Scope>) -> Usage {
        let mut usage = Usage::default();
        for (name, table) in &self.scopes {
            if scope.is_none_or(|scope| scope == name) {
                let spent = table.spent.len() as u64;
                usage.executions += table.bound.len() as u64 - spent;
                usage.bindings += spent;
                usage.bytes += table.budget.used();
            }
        }
        usage
    }

    /// The scope whose execution ended first.
    fn oldest(&mut self) -> Option<&mut ScopeTable> {
        let ended = |table: &&mut ScopeTable| table.ended.front().map(|(at, _)| *at);
        let tables = self.scopes.values_mut().filter(|table| !table.ended.is_empty());
        tables.min_by_key(ended)
    }

    /// Drops one ended execution of whoever has to make room. `false` where there is none.
    fn make_room(&mut self, scope: &Scope, bound: Bound, now: u64) -> bool {
        let table = match bound {
            Bound::BytesInAll(_) => self.oldest(),
            _ => self.scopes.get_mut(scope),
        };
        table.is_some_and(|table| table.drop_oldest(now))
    }
}

impl ScopeTable {
    fn new(limit: u64, server: Arc<Budget>) -> Self {
        Self {
            budget: Arc::new(Budget::new(limit)),
            server,
            bound: HashMap::new(),
            ended: VecDeque::new(),
            spent: VecDeque::new(),
        }
    }

    fn sweep(&mut self, now: u64, retention: u64, binding: u64) {
        while is_due(&self.ended, now, retention) {
            self.drop_oldest(now);
        }
        while is_due(&self.spent, now, binding) {
            self.unbind_oldest();
        }
    }

    /// Drops the events of the execution that ended first; its id is spent then. `false` where there is none.
    fn drop_oldest(&mut self, now: u64) -> bool {
        let Some((_, id)) = self.ended.pop_front() else {
            return false;
        };
        self.drop_events(id, now);
        true
    }

    /// Drops the events of an ended execution, which `ended` does not list any more.
    fn drop_events(&mut self, id: ExecutionId, now: u64) {
        if let Some(Bond::Log(execution)) = self.bound.insert(id.clone(), Bond::Spent) {
            let mut journal = lock(&execution.journal);
            let freed = EXECUTION + journal.bytes() + id_bytes(&id);
            journal.drop_frames();
            self.give_back(freed - BINDING - id_bytes(&id));
        }
        self.spent.push_back((now, id));
    }

    fn unbind_oldest(&mut self) {
        if let Some((_, id)) = self.spent.pop_front() {
            self.bound.remove(&id);
            self.give_back(BINDING + id_bytes(&id));
        }
    }

    fn give_back(&self, bytes: u64) {
        self.budget.give_back(bytes);
        self.server.give_back(bytes);
    }
}

/// Takes `bytes` from both budgets or from none.
pub(super) fn charge(scope: &Budget, server: &Budget, bytes: u64) -> Result<(), Bound> {
    if !scope.take(bytes) {
        return Err(Bound::BytesPerScope(scope.limit()));
    }
    if !server.take(bytes) {
        scope.give_back(bytes);
        return Err(Bound::BytesInAll(server.limit()));
    }
    Ok(())
}

pub(super) fn id_bytes(id: &ExecutionId) -> u64 {
    id.as_str().len() as u64
}

fn is_due(queue: &VecDeque<(u64, ExecutionId)>, now: u64, after: u64) -> bool {
    queue.front().is_some_and(|(at, _)| at.saturating_add(after) <= now)
}
