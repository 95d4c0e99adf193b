//! Steps of a history, and strategies that generate them.

use super::model::{NUMBERS, PEOPLE};
use phone_identity::proto::v1::CodePurpose;
use proptest::prelude::*;
use proptest::sample::select;

/// A step of a history.
#[derive(Clone, Copy, Debug)]
pub(super) enum Step {
    Register {
        person: usize,
        number: usize,
    },
    SignIn {
        person: usize,
    },
    SignOut {
        person: usize,
    },
    Leave {
        person: usize,
    },
    Ask {
        purpose: CodePurpose,
        person: usize,
        number: Number,
    },
    AskAgain {
        challenge: usize,
    },
    Meet {
        challenge: usize,
        by: Bearer,
        code: Tried,
        with_password: bool,
    },
    Wait {
        seconds: u64,
    },
}

/// Which number.
#[derive(Clone, Copy, Debug)]
pub(super) enum Number {
    /// That of the user.
    Own,
    /// That of the other user.
    OfOther,
    These(usize),
}

/// The caller that tries a code.
#[derive(Clone, Copy, Debug)]
pub(super) enum Bearer {
    /// The user that the challenge is for.
    Owner,
    Other,
}

/// Which code is tried. Challenges are the last few ones, counted from the last one.
#[derive(Clone, Copy, Debug)]
pub(super) enum Tried {
    Right,
    Wrong,
    OfChallenge(usize),
}

const PURPOSES: [CodePurpose; 4] = [
    CodePurpose::VerifyPhone,
    CodePurpose::SignIn,
    CodePurpose::ResetPassword,
    CodePurpose::ChangePhone,
];

/// Times around the resend interval, the lifetime of a code, the freshness of a sign-in, and the hold of a new number,
/// in seconds.
const WAITS: [u64; 9] = [1, 29, 30, 31, 299, 300, 301, 86_399, 86_400];

fn meeting(code: Tried) -> Step {
    Step::Meet {
        challenge: 0,
        by: Bearer::Owner,
        code,
        with_password: true,
    }
}

fn asking() -> impl Strategy<Value = Step> {
    let number = prop_oneof![
        3 => Just(Number::Own),
        1 => Just(Number::OfOther),
        2 => (0..NUMBERS).prop_map(Number::These),
    ];
    (select(&PURPOSES[..]), 0..PEOPLE, number).prop_map(|(purpose, person, number)| Step::Ask {
        purpose,
        person,
        number,
    })
}

/// Generates a step that any user may take at any time.
pub(super) fn step() -> impl Strategy<Value = Step> {
    let person = 0..PEOPLE;
    let challenge = 0..4_usize;
    let tried = prop_oneof![
        6 => Just(Tried::Right),
        2 => Just(Tried::Wrong),
        1 => challenge.clone().prop_map(Tried::OfChallenge),
    ];
    let by = prop_oneof![4 => Just(Bearer::Owner), 1 => Just(Bearer::Other)];
    prop_oneof![
        2 => (person.clone(), 0..NUMBERS).prop_map(|(person, number)| Step::Register { person, number }),
        3 => person.clone().prop_map(|person| Step::SignIn { person }),
        1 => person.clone().prop_map(|person| Step::SignOut { person }),
        1 => person.prop_map(|person| Step::Leave { person }),
        4 => asking(),
        1 => challenge.clone().prop_map(|challenge| Step::AskAgain { challenge }),
        4 => (challenge, by, tried, any::<bool>()).prop_map(|(challenge, by, code, with_password)| {
            Step::Meet { challenge, by, code, with_password }
        }),
        2 => select(&WAITS[..]).prop_map(|seconds| Step::Wait { seconds }),
    ]
}

/// Things that follow each other where it matters.
pub(super) fn story() -> impl Strategy<Value = Vec<Step>> {
    let wait = || select(&WAITS[..]).prop_map(|seconds| Step::Wait { seconds });
    let change = |person, number| Step::Ask {
        purpose: CodePurpose::ChangePhone,
        person,
        number,
    };
    prop_oneof![
        4 => step().prop_map(|step| vec![step]),
        // A code that is met.
        4 => asking().prop_map(|ask| vec![ask, meeting(Tried::Right)]),
        // Perhaps too late, or by a sign-in that is not fresh.
        2 => (asking(), wait(), any::<bool>()).prop_map(|(ask, wait, with_password)| {
            let meet = Step::Meet { challenge: 0, by: Bearer::Owner, code: Tried::Right, with_password };
            vec![ask, wait, meet]
        }),
        // Sent again, perhaps too early, and met.
        2 => (asking(), wait()).prop_map(|(ask, wait)| {
            vec![ask, wait, Step::AskAgain { challenge: 0 }, meeting(Tried::Right)]
        }),
        // Perhaps used up.
        1 => (asking(), 3..6_usize).prop_map(|(ask, wrong)| {
            let mut steps = vec![ask];
            steps.extend(std::iter::repeat_n(meeting(Tried::Wrong), wrong));
            steps.push(meeting(Tried::Right));
            steps
        }),
        // A number that changes, and perhaps back, and a password that is reset, perhaps too early.
        3 => (0..PEOPLE, 0..NUMBERS, 0..NUMBERS, wait()).prop_map(move |(person, to, back, wait)| {
            let reset = Step::Ask { purpose: CodePurpose::ResetPassword, person, number: Number::Own };
            vec![
                Step::SignIn { person },
                change(person, Number::These(to)),
                meeting(Tried::Right),
                change(person, Number::These(back)),
                meeting(Tried::Right),
                wait,
                reset,
                meeting(Tried::Right),
            ]
        }),
        // Both want one number.
        2 => (0..NUMBERS, any::<bool>()).prop_map(move |(number, is_first)| {
            let number = Number::These(number);
            let last = usize::from(is_first);
            let meet = |challenge| Step::Meet {
                challenge,
                by: Bearer::Owner,
                code: Tried::Right,
                with_password: true,
            };
            vec![
                Step::SignIn { person: 0 },
                Step::SignIn { person: 1 },
                change(0, number),
                change(1, number),
                meet(last),
                meet(1 - last),
            ]
        }),
    ]
}
