use std::thread;

use super::*;

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3600);

const COST: Duration = Duration::from_millis(10);

/// One flow, in which jobs are taken in the order in which they come.
const FLOW: Flow = Flow::of_path([1, 1, 1]);

fn push(queue: &Queue<char>, job: char) -> Ticket {
    queue.push(FLOW, job).unwrap().ticket
}

fn job<T>(taken: Option<Taken<T>>) -> Option<T> {
    taken.map(|taken| taken.job)
}

#[test]
fn jobs_are_taken_in_turn_and_no_more_wait_than_may() {
    let queue = Queue::new(2, COST);
    push(&queue, 'a');
    push(&queue, 'b');
    assert_eq!((queue.push(FLOW, 'c').map(|_| ()), queue.depth()), (Err(Full), 2));
    assert_eq!(job(queue.take(|| ())), Some('a'));
    push(&queue, 'd');
    assert_eq!(
        (job(queue.take(|| ())), job(queue.take(|| ()))),
        (Some('b'), Some('d'))
    );
    assert_eq!(queue.depth(), 0);
}

#[test]
fn a_job_whose_caller_has_gone_makes_room() {
    let queue = Queue::new(3, COST);
    let tickets = ['a', 'b', 'c'].map(|name| push(&queue, name));
    assert_eq!(queue.remove(tickets[1]), Some('b'));
    assert_eq!(queue.remove(tickets[1]), None);
    assert_eq!(queue.depth(), 2);
    push(&queue, 'd');
    assert_eq!(job(queue.take(|| ())), Some('a'));
    assert_eq!(queue.remove(tickets[0]), None, "it was taken");
    assert_eq!(
        (job(queue.take(|| ())), job(queue.take(|| ()))),
        (Some('c'), Some('d'))
    );
}

#[test]
fn only_what_has_waited_long_enough_is_taken_out_of_turn() {
    let queue = Queue::new(2, COST);
    push(&queue, 'a');
    assert_eq!(job(queue.take_aged(Duration::ZERO, |_| None)), Some('a'));
    push(&queue, 'b');
    thread::scope(|scope| {
        let rescue = scope.spawn(|| queue.take_aged(NEVER, |_| None));
        assert_eq!(job(queue.take(|| ())), Some('b'));
        queue.close();
        assert!(rescue.join().unwrap().is_none());
    });
}

#[test]
fn who_waits_is_woken_by_a_job_and_by_the_end() {
    let queue = Queue::new(1, COST);
    thread::scope(|scope| {
        let waiting = scope.spawn(|| job(queue.take(|| ())));
        push(&queue, 'a');
        assert_eq!(waiting.join().unwrap(), Some('a'));
        let waiting = scope.spawn(|| job(queue.take_aged(Duration::ZERO, |_| None)));
        push(&queue, 'b');
        assert_eq!(waiting.join().unwrap(), Some('b'));
        let waiting = [
            scope.spawn(|| job(queue.take(|| ()))),
            scope.spawn(|| job(queue.take_aged(Duration::ZERO, |_| None))),
        ];
        queue.close();
        for ended in waiting {
            assert_eq!(ended.join().unwrap(), None);
        }
    });
}

#[test]
fn whoever_has_to_wait_is_told_before() {
    let queue = Queue::new(2, COST);
    push(&queue, 'a');
    assert_eq!(job(queue.take(|| unreachable!("there is one"))), Some('a'));
    // What comes at the last moment is not slept through.
    let taken = queue.take(|| assert!(queue.push(FLOW, 'b').is_ok()));
    assert_eq!(job(taken), Some('b'));
    let mut told = 0;
    queue.close();
    assert!(queue.take(|| told += 1).is_none());
    assert_eq!(told, 0, "it does not wait");
}

#[test]
fn whoever_is_woken_for_nothing_is_told_again() {
    let queue = Queue::<char>::new(1, COST);
    let told = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            queue.take(|| {
                told.fetch_add(1, Ordering::Relaxed);
            })
        });
        while told.load(Ordering::Relaxed) < 3 {
            queue.wake_all();
            thread::yield_now();
        }
        queue.close();
    });
}

#[test]
fn who_waits_for_old_jobs_looks_when_it_is_told_to() {
    let queue = Queue::<char>::new(1, COST);
    let (looked, looks) = std::sync::mpsc::sync_channel(3);
    let start = Instant::now();
    let [first, second] = [10, 20].map(|ms| start + Duration::from_millis(ms));
    let mut again = Some(second);
    thread::scope(|scope| {
        scope.spawn(|| {
            queue.take_aged(NEVER, |now| {
                looked.send(now).unwrap();
                again.take()
            })
        });
        // The sooner one counts, in either order.
        for due in [start + NEVER, first, start + NEVER] {
            queue.set_clock(due);
        }
        assert!(looks.recv().unwrap() >= first);
        assert!(looks.recv().unwrap() >= second);
        // Also when it waits by now.
        queue.set_clock(start);
        looks.recv().unwrap();
        queue.close();
    });
}

#[test]
fn while_it_is_held_nobody_takes_a_job() {
    let queue = Queue::new(1, COST);
    queue.hold();
    let ticket = push(&queue, 'a');
    thread::scope(|scope| {
        let takers = [
            scope.spawn(|| job(queue.take(|| ()))),
            scope.spawn(|| job(queue.take_aged(Duration::ZERO, |_| None))),
        ];
        assert_eq!(queue.remove(ticket), Some('a'), "both wait");
        push(&queue, 'b');
        queue.release();
        let closer = scope.spawn(|| {
            while queue.depth() > 0 {
                thread::yield_now();
            }
            queue.close();
        });
        let taken = takers.map(|taker| taker.join().unwrap());
        closer.join().unwrap();
        assert!(taken.contains(&Some('b')) && taken.contains(&None), "{taken:?}");
    });
}
