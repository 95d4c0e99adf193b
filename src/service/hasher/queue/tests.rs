use std::thread;

use super::*;

/// Longer than any test.
const NEVER: Duration = Duration::from_secs(3600);

const COST: Duration = Duration::from_millis(10);

/// A single flow, in which jobs are taken in order of arrival.
const FLOW: Flow = Flow::of_path([1, 1, 1]);

fn push(queue: &Queue<char>, job: char) -> Ticket {
    queue.push(FLOW, job).unwrap().ticket
}

fn job<T>(taken: Option<Taken<T>>) -> Option<T> {
    taken.map(|taken| taken.job)
}

#[test]
fn jobs_are_taken_in_order_and_the_number_of_waiting_jobs_is_limited() {
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
fn removing_a_job_frees_its_slot() {
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
fn the_rescue_takes_only_jobs_that_have_waited_long_enough() {
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
fn a_waiting_thread_is_woken_by_a_job_and_by_the_close() {
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
fn a_thread_is_notified_before_it_waits() {
    let queue = Queue::new(2, COST);
    push(&queue, 'a');
    assert_eq!(job(queue.take(|| unreachable!("a job waits"))), Some('a'));
    // A job that arrives just before the wait is not missed.
    let taken = queue.take(|| assert!(queue.push(FLOW, 'b').is_ok()));
    assert_eq!(job(taken), Some('b'));
    let mut notified = 0;
    queue.close();
    assert!(queue.take(|| notified += 1).is_none());
    assert_eq!(notified, 0, "it does not wait");
}

#[test]
fn a_thread_is_notified_again_after_a_spurious_wakeup() {
    let queue = Queue::<char>::new(1, COST);
    let notified = AtomicUsize::new(0);
    thread::scope(|scope| {
        scope.spawn(|| {
            queue.take(|| {
                notified.fetch_add(1, Ordering::Relaxed);
            })
        });
        while notified.load(Ordering::Relaxed) < 3 {
            queue.wake_all();
            thread::yield_now();
        }
        queue.close();
    });
}

#[test]
fn the_rescue_thread_looks_at_the_time_of_its_timer() {
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
        // The earlier time counts, in either order.
        for due in [start + NEVER, first, start + NEVER] {
            queue.set_clock(due);
        }
        assert!(looks.recv().unwrap() >= first);
        assert!(looks.recv().unwrap() >= second);
        // The timer also wakes a thread that already waits.
        queue.set_clock(start);
        looks.recv().unwrap();
        queue.close();
    });
}

#[test]
fn a_held_queue_releases_no_job() {
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
