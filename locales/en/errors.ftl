# What a person may be shown when a call fails. The ids are the names of the values of the proto enums ErrorReason and
# ViolationReason, in small letters and with hyphens.

error-invalid-input = Please check what you entered.
error-malformed-message = The request cannot be read.
error-message-too-large = The request is too large.
error-deadline-exceeded = This took too long. Please try again.
error-not-implemented = This is not possible here.
error-invalid-credentials = The phone number or the password is wrong.
error-session-invalid = Please sign in again.
error-session-expired = Your session has ended. Please sign in again.
error-not-superuser = You may not do this.
error-current-password-wrong = The current password is wrong.
error-phone-number-taken = This phone number is already registered.
error-account-deactivated = This account is deactivated.
error-reauthentication-required = Please enter your password once more.
error-last-superuser = The last administrator cannot leave.
error-overloaded = Too many people are signing in right now. Please try again in a moment.
error-database-unavailable = The service is not available right now. Please try again in a moment.
error-internal = Something went wrong. Please try again later.

violation-required = Please fill this in.
violation-enum-value-unknown = This value is not known.
violation-mutually-exclusive = These two cannot be combined.
violation-too-many-items = These are too many.
violation-session-id-invalid = This is not a session.
violation-ip-address-invalid = This is not an IP address.
violation-locale-invalid = This language is not known.
violation-region-unknown = This country is not known.
violation-phone-number-input-too-long = The phone number is too long.
violation-phone-number-character-not-allowed = The phone number may have digits, spaces and + - . ( ) / only.
violation-phone-number-region-required = Please enter the phone number with + and the country code.
violation-phone-number-not-a-number = This is not a phone number.
violation-phone-number-country-code-unknown = This country code does not exist.
violation-phone-number-too-short = The phone number has too few digits.
violation-phone-number-too-long = The phone number has too many digits.
violation-phone-number-length-not-possible = The phone number has a wrong number of digits.
violation-phone-number-local-only = Please enter the phone number with its area code.
violation-phone-number-not-stable = This phone number is ambiguous.
violation-phone-number-not-valid = This phone number does not exist.
violation-phone-number-line-type-not-allowed = Phone numbers of this kind cannot be registered.
violation-password-too-short = The password needs at least { $min } characters.
violation-password-too-long = The password is too long.
violation-password-character-not-allowed = The password has a character that is not allowed.
violation-password-too-common = This password is too easy to guess.
violation-password-contains-phone-number = The password must not be the phone number.
