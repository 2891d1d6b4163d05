//! Mistakes of a store, made between the real one and the product.

use turnkit::Persisted;
use turnkit_chat::{
    Answer, ChatStore, Ending, Failure, Principal, StoreError, StoreErrorKind, TurnRef, TurnState,
    store::{
        Claim, Claimed, EndedBy, Find, Found, Intended, Lease, MessagePage, Stored, Told, TurnRow,
        Wish,
    },
};
use turnkit_id::ExecutionId;

use super::Bug;
use crate::world::World;

/// What the store says of a write of which it does not know whether it was made.
pub(crate) fn lost_commit(world: &World) -> StoreErrorKind {
    if world.has(Bug::CommitForgotten) {
        StoreErrorKind::Busy
    } else {
        StoreErrorKind::OutcomeUnknown
    }
}

/// Claims; with [`Bug::ClaimedTwice`] by what was seen a moment before.
pub(crate) fn claim(world: World, store: &dyn ChatStore, mut claim: Claim) -> Stored<'_, Claimed> {
    if world.has(Bug::OpenedBesideAnother) {
        return Box::pin(async move {
            let execution = claim.execution_id.clone();
            let claimed = store.claim(claim).await?;
            if let (Claimed::Run(_), Some(row)) = (&claimed, row(store, &execution).await) {
                open_another(store, row).await?;
            }
            Ok(claimed)
        });
    }
    if !world.has(Bug::ClaimedTwice) && !world.has(Bug::EpochUnchecked) {
        return store.claim(claim);
    }
    Box::pin(async move {
        let looked = row(store, &claim.execution_id).await;
        if world.has(Bug::EpochUnchecked) {
            claim.seen_epoch = looked.map_or(claim.seen_epoch, |row| row.epoch);
            return store.claim(claim).await;
        }
        world.pause().await;
        let claimed = store.claim(claim.clone()).await?;
        let was_free = |row: &TurnRow| {
            row.state == TurnState::Open && !row.is_held && row.epoch == claim.seen_epoch
        };
        Ok(match looked {
            Some(row) if claimed == Claimed::Refused && was_free(&row) => {
                let lease = Lease { execution_id: claim.execution_id, epoch: row.epoch + 1 };
                if row.dispatched { Claimed::Attach(lease) } else { Claimed::Run(lease) }
            }
            _ => claimed,
        })
    })
}

/// Takes a turn that is about to run out of `open`, where others wait: so the first of these is opened.
async fn open_another(store: &dyn ChatStore, row: TurnRow) -> Result<(), StoreError> {
    let (owner, session) = (row.turn.owner.clone(), row.turn.session_id.clone());
    let state = store.session(owner, session, MessagePage::newest(1)).await?;
    if state.is_some_and(|state| !state.queue.turns.is_empty()) {
        let failure = Failure { code: None, message: "it has not failed".to_owned() };
        let ending = Ending::failed(failure, Answer::from(String::new()));
        store.end(EndedBy::Log(row.turn.execution_id), ending).await?;
    }
    Ok(())
}

/// Saves; with [`Bug::SavedTwice`] as if nobody had before, with [`Bug::SavedIntoDeleted`] as if nothing could be deleted.
pub(crate) fn save(
    world: World,
    store: &dyn ChatStore,
    execution: ExecutionId,
    answer: Answer,
) -> Stored<'_, Persisted> {
    Box::pin(async move {
        let persisted = match store.save(execution, answer).await {
            Err(error)
                if error.kind() == StoreErrorKind::Gone && world.has(Bug::SavedIntoDeleted) =>
            {
                Persisted::Saved
            }
            saved => saved?,
        };
        Ok(if world.has(Bug::SavedTwice) { Persisted::Saved } else { persisted })
    })
}

/// Ends; with [`Bug::EpochUnchecked`] for whoever has ever held the lease.
pub(crate) fn end<'a>(
    world: &World,
    store: &'a dyn ChatStore,
    by: EndedBy,
    ending: Ending,
) -> Stored<'a, bool> {
    if world.has(Bug::EpochUnchecked) {
        let by = EndedBy::Log(by.execution_id().clone());
        return store.end(by, ending);
    }
    store.end(by, ending)
}

/// Gives a lease up; with [`Bug::EpochUnchecked`] whichever there is.
pub(crate) fn release<'a>(
    world: &World,
    store: &'a dyn ChatStore,
    mut lease: Lease,
) -> Stored<'a, ()> {
    if !world.has(Bug::EpochUnchecked) {
        return store.release(lease);
    }
    Box::pin(async move {
        if let Some(row) = row(store, &lease.execution_id).await {
            lease.epoch = row.epoch;
        }
        store.release(lease).await
    })
}

/// Notes what a user wants; with [`Bug::IntentIsTheAnswer`] as if the log had told it.
pub(crate) fn intend(
    world: World,
    store: &dyn ChatStore,
    owner: Principal,
    at: TurnRef,
    wish: Wish,
) -> Stored<'_, Intended> {
    Box::pin(async move {
        let intended = store.intend(owner, at, wish.clone()).await?;
        if let (true, Intended::Noted(intent), Wish::Answer { interaction, outcome, .. }) =
            (world.has(Bug::IntentIsTheAnswer), &intended, wish)
        {
            let told = vec![Told::Answered { id: interaction, outcome }];
            store.note(intent.execution_id.clone(), told).await?;
        }
        Ok(intended)
    })
}

/// The row as it is, whatever else goes wrong.
pub(crate) async fn row(store: &dyn ChatStore, execution: &ExecutionId) -> Option<TurnRow> {
    match store.find(Find::Execution(execution.clone())).await {
        Ok(Found::Turn(row)) => Some(row),
        _ => None,
    }
}
