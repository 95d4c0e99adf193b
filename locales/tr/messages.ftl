# Texts of SMS messages. Each fits into one message: 160 characters of the GSM alphabet, or 70 with any other character.

sms-sign-in = { $code } oturum açma kodunuz. Kimseyle paylaşmayın.
sms-verify-phone = { $code } numara doğrulama kodunuz. Kimseyle paylaşmayın.
sms-reset-password = { $code } parola sıfırlama kodunuz. Kimseyle paylaşmayın.
sms-change-phone = { $code } numara değiştirme kodunuz. Kimseyle paylaşmayın.
sms-register = { $code } kayıt kodunuz. Kimseyle paylaşmayın.
sms-already-registered = Bu numarayla bir hesap var. Giriş yapın ya da parolayı sıfırlayın.
sms-phone-changed = Hesabınızın numarası değişti. Siz yapmadıysanız desteğe yazın.
