# What is sent by SMS. A text fits one message: 160 characters of the GSM alphabet, or 70 if it has any other.

sms-sign-in = { $code } oturum açma kodunuz. Kimseyle paylaşmayın.
sms-verify-phone = { $code } numara doğrulama kodunuz. Kimseyle paylaşmayın.
sms-reset-password = { $code } parola sıfırlama kodunuz. Kimseyle paylaşmayın.
