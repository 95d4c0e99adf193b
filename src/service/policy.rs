//! Settings that accounts, codes and administration share.

use std::time::Duration;

use crate::domain::session::Lifetimes;
use crate::domain::sms_limits::Reach;

/// The settings of accounts.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Lifetimes of sessions.
    pub lifetimes: Lifetimes,
    /// Maximum number of live sessions of a user. A further one removes the oldest.
    pub max_sessions: u32,
    /// Time after a sign-in during which a user changes the account without the password.
    pub reauthentication_window: Duration,
    /// Minimum time until a failed sign-in is answered.
    pub min_failed_sign_in_duration: Duration,
    /// Time after the last use of a device during which the device is known.
    pub device_lifetime: Duration,
    /// Maximum number of known devices of a user. A further one removes the one that was unused for the longest time.
    pub max_devices: u32,
    /// The numbers that get an SMS when their account gets another number. `None`: no messages are sent.
    pub notices: Option<Reach>,
    /// Whether UpdateProfile sets a phone number that is not verified.
    pub unverified_phone_change: bool,
    /// Time after a change of the number during which a code to it sets no password.
    pub phone_change_hold: Duration,
}
