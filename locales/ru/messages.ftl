# Texts of SMS messages. Each fits into one message: 160 characters of the GSM alphabet, or 70 with any other character.

sms-sign-in = { $code } — код для входа. Никому его не сообщайте.
sms-verify-phone = { $code } — код для проверки номера. Никому его не сообщайте.
sms-reset-password = { $code } — код для сброса пароля. Никому его не сообщайте.
sms-change-phone = { $code } — код для смены номера. Никому его не сообщайте.
sms-register = { $code } — код для регистрации. Никому его не сообщайте.
sms-already-registered = На этот номер уже есть аккаунт. Войдите или сбросьте пароль.
sms-phone-changed = Номер вашего аккаунта изменён. Это не вы? Напишите в поддержку.
