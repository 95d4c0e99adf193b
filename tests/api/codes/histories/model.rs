//! The expected result of each step: a second implementation, as simple as possible.

use std::collections::VecDeque;

use phone_identity::proto::v1::CodePurpose;

pub(super) const PEOPLE: usize = 2;
pub(super) const NUMBERS: usize = 3;

/// The password of registrations, and that of resets.
pub(super) const PASSWORDS: [&str; 2] = [crate::support::PASSWORD, super::super::NEW_PASSWORD];

/// In seconds.
const CODE_LIFETIME: u64 = 300;
const RESEND_INTERVAL: u64 = 30;
const REAUTHENTICATION_WINDOW: u64 = 300;
const PHONE_CHANGE_HOLD: u64 = 86_400;

const MAX_ATTEMPTS: u32 = 5;

/// Number of ended sessions that are checked.
const MAX_ENDED: usize = 4;

pub(super) struct Model {
    /// In seconds, since the beginning.
    pub(super) now: u64,
    pub(super) numbers: [String; NUMBERS],
    /// `None`: the user has not registered, or has left.
    pub(super) people: [Option<Known>; PEOPLE],
    pub(super) challenges: Vec<Challenge>,
    /// Sessions that are over, the last few.
    ended: VecDeque<Token>,
}

pub(super) struct Known {
    pub(super) id: String,
    pub(super) number: usize,
    pub(super) is_verified: bool,
    pub(super) password: Option<&'static str>,
    changed_at: Option<u64>,
    /// Goes up with each change of the credentials.
    version: u32,
    /// The live ones; the last one is what they use.
    tokens: Vec<Token>,
}

#[derive(Clone)]
pub(super) struct Token {
    pub(super) text: String,
    created_at: u64,
}

#[derive(Clone)]
pub(super) struct Challenge {
    pub(super) id: String,
    pub(super) purpose: CodePurpose,
    pub(super) code: String,
    number: usize,
    /// The id of the user that it is for.
    user_id: Option<String>,
    /// The version of that user's credentials at the request.
    version: Option<u32>,
    created_at: u64,
    sent_at: u64,
    attempts: u32,
    is_met: bool,
}

impl Model {
    pub(super) fn new(numbers: [String; NUMBERS]) -> Self {
        Self {
            now: 0,
            numbers,
            people: [const { None }; PEOPLE],
            challenges: Vec::new(),
            ended: VecDeque::new(),
        }
    }

    pub(super) fn person(&self, person: usize) -> &Known {
        self.people[person].as_ref().unwrap()
    }

    fn person_mut(&mut self, person: usize) -> &mut Known {
        self.people[person].as_mut().unwrap()
    }

    /// Returns the user that has a number.
    pub(super) fn holder(&self, number: usize) -> Option<usize> {
        let has = |person: &Option<Known>| person.as_ref().is_some_and(|person| person.number == number);
        self.people.iter().position(has)
    }

    /// All live sessions and some ended ones, each with its user. `None`: it has ended.
    pub(super) fn sessions(&self) -> Vec<(String, Option<usize>)> {
        let ended = self.ended.iter().map(|token| (token.text.clone(), None));
        let alive = self.people.iter().enumerate().flat_map(|(index, person)| {
            let tokens = person.iter().flat_map(|person| &person.tokens);
            tokens.map(move |token| (token.text.clone(), Some(index)))
        });
        ended.chain(alive).collect()
    }

    /// Returns the session that a user has in use.
    pub(super) fn token(&self, person: usize) -> Option<Token> {
        self.people[person].as_ref()?.tokens.last().cloned()
    }

    pub(super) fn is_fresh(&self, token: &Token) -> bool {
        self.now <= token.created_at + REAUTHENTICATION_WINDOW
    }

    pub(super) fn registered(&mut self, person: usize, number: usize, id: String, token: String) {
        self.people[person] = Some(Known {
            id,
            number,
            is_verified: false,
            password: Some(PASSWORDS[0]),
            changed_at: None,
            version: 0,
            tokens: Vec::new(),
        });
        self.signed_in(person, token);
    }

    pub(super) fn signed_in(&mut self, person: usize, text: String) {
        let created_at = self.now;
        self.person_mut(person).tokens.push(Token { text, created_at });
    }

    pub(super) fn signed_out(&mut self, person: usize) {
        let ended = self.person_mut(person).tokens.pop();
        self.forget(ended);
    }

    fn end_sessions(&mut self, person: usize) {
        let ended = std::mem::take(&mut self.person_mut(person).tokens);
        self.forget(ended);
    }

    fn forget(&mut self, ended: impl IntoIterator<Item = Token>) {
        self.ended.extend(ended);
        self.ended.drain(..self.ended.len().saturating_sub(MAX_ENDED));
    }

    /// A user verified the number of another user, which never verified it.
    fn lost(&mut self, person: usize) {
        self.end_sessions(person);
        let known = self.person_mut(person);
        (known.password, known.is_verified) = (None, true);
        known.version += 1;
    }

    pub(super) fn left(&mut self, person: usize) {
        self.end_sessions(person);
        self.people[person] = None;
    }

    pub(super) fn asked(
        &mut self,
        id: String,
        purpose: CodePurpose,
        number: usize,
        user_id: Option<String>,
        code: String,
    ) {
        let is_them = |person: &&Known| Some(&person.id) == user_id.as_ref();
        let version = self
            .people
            .iter()
            .flatten()
            .find(is_them)
            .map(|person| person.version);
        self.challenges.push(Challenge {
            id,
            purpose,
            code,
            number,
            user_id,
            version,
            created_at: self.now,
            sent_at: self.now,
            attempts: 0,
            is_met: false,
        });
    }

    /// One of the last challenges, counted from the last one.
    pub(super) fn recent(&self, back: usize) -> Option<usize> {
        let count = self.challenges.len();
        (count > 0).then(|| count - 1 - back % count.min(4))
    }

    /// Returns the user of a challenge, if it still exists.
    pub(super) fn owner(&self, index: usize) -> Option<usize> {
        let user_id = self.challenges[index].user_id.as_deref()?;
        let is_owner = |person: &Option<Known>| person.as_ref().is_some_and(|person| person.id == user_id);
        self.people.iter().position(is_owner)
    }

    fn is_open(&self, index: usize) -> bool {
        let challenge = &self.challenges[index];
        !challenge.is_met
            && challenge.attempts < MAX_ATTEMPTS
            && self.now < challenge.created_at + CODE_LIFETIME
    }

    pub(super) fn asked_again(&mut self, index: usize) -> Result<(), &'static str> {
        if !self.is_open(index) {
            return Err("CODE_INVALID");
        }
        let now = self.now;
        let challenge = &mut self.challenges[index];
        if now < challenge.sent_at + RESEND_INTERVAL {
            return Err("TOO_MANY_ATTEMPTS");
        }
        challenge.sent_at = now;
        Ok(())
    }

    /// Tries a code. Returns the user that gets the effect of the challenge.
    pub(super) fn met(
        &mut self,
        index: usize,
        bearer: usize,
        code: &str,
        with_password: bool,
    ) -> Result<usize, &'static str> {
        let purpose = self.challenges[index].purpose;
        let is_bearers = matches!(purpose, CodePurpose::VerifyPhone | CodePurpose::ChangePhone);
        if is_bearers {
            let token = self.token(bearer).ok_or("SESSION_INVALID")?;
            if purpose == CodePurpose::ChangePhone {
                match (with_password, self.person(bearer).password) {
                    (true, None) => return Err("CURRENT_PASSWORD_WRONG"),
                    (false, _) if !self.is_fresh(&token) => return Err("REAUTHENTICATION_REQUIRED"),
                    _ => {}
                }
            }
        }
        if !self.is_open(index) {
            return Err("CODE_INVALID");
        }
        let now = self.now;
        let challenge = &mut self.challenges[index];
        challenge.attempts += 1;
        let challenge = challenge.clone();
        // A code is right only for the user of its challenge, while that user exists.
        let owner = self.owner(index).ok_or("CODE_INVALID")?;
        if code != challenge.code || (is_bearers && owner != bearer) {
            return Err("CODE_INVALID");
        }
        if challenge.version != Some(self.person(owner).version) {
            return Err("CODE_INVALID");
        }
        if purpose == CodePurpose::ChangePhone {
            if let Some(holder) = self.holder(challenge.number).filter(|holder| *holder != owner) {
                let Known {
                    is_verified,
                    changed_at,
                    ..
                } = *self.person(holder);
                let is_held = changed_at.is_some_and(|changed_at| now < changed_at + PHONE_CHANGE_HOLD);
                if !is_verified && !is_held {
                    self.lost(holder);
                }
                return Err("PHONE_NUMBER_TAKEN");
            }
            let person = self.person_mut(owner);
            if person.number != challenge.number {
                (person.number, person.changed_at) = (challenge.number, Some(now));
                person.version += 1;
            }
        } else if self.person(owner).number != challenge.number {
            return Err("CODE_INVALID");
        }
        if purpose == CodePurpose::ResetPassword {
            let changed_at = self.person(owner).changed_at;
            if changed_at.is_some_and(|changed_at| now < changed_at + PHONE_CHANGE_HOLD) {
                return Err("PHONE_CHANGED_RECENTLY");
            }
            self.end_sessions(owner);
            let person = self.person_mut(owner);
            person.password = Some(PASSWORDS[1]);
            person.version += 1;
        }
        if purpose == CodePurpose::SignIn && !self.person(owner).is_verified {
            self.lost(owner);
        }
        self.person_mut(owner).is_verified = true;
        self.challenges[index].is_met = true;
        Ok(owner)
    }
}
