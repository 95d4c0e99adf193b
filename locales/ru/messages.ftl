# What is sent by SMS. A text fits one message: 160 characters of the GSM alphabet, or 70 if it has any other.

sms-sign-in = { $code } — код для входа. Никому его не сообщайте.
sms-verify-phone = { $code } — код подтверждения номера. Никому его не сообщайте.
sms-reset-password = { $code } — код для сброса пароля. Никому его не сообщайте.
