# What is sent by SMS. A text fits one message: 160 characters of the GSM alphabet, or 70 if it has any other.

sms-sign-in = { $code } is your code to sign in. Do not tell it to anybody.
sms-verify-phone = { $code } is the code to verify your number. Do not tell it to anybody.
sms-reset-password = { $code } is the code to reset your password. Do not tell it to anybody.
