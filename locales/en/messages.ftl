# Texts of SMS messages. Each fits into one message: 160 characters of the GSM alphabet, or 70 with any other character.

sms-sign-in = { $code } is your code to sign in. Do not tell it to anybody.
sms-verify-phone = { $code } is the code to verify your number. Do not tell it to anybody.
sms-reset-password = { $code } is the code to reset your password. Do not tell it to anybody.
sms-change-phone = { $code } is the code to use this number from now on. Do not tell it to anybody.
sms-register = { $code } is your code to register. Do not tell it to anybody.
sms-already-registered = There is an account with this number already. Sign in, or reset the password.
sms-phone-changed = Your account has another phone number now. If it was not you who changed it, contact support.
