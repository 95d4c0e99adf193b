# Texts of SMS messages. Each fits into one message: 160 characters of the GSM alphabet, or 70 with any other character.

sms-sign-in = { $code } - kirish uchun kod. Uni hech kimga aytmang.
sms-verify-phone = { $code } - raqamingizni tasdiqlash uchun kod. Uni hech kimga aytmang.
sms-reset-password = { $code } - parolni tiklash uchun kod. Uni hech kimga aytmang.
sms-change-phone = { $code } - raqamni almashtirish uchun kod. Uni hech kimga aytmang.
sms-register = { $code } - ro'yxatdan o'tish uchun kod. Uni hech kimga aytmang.
sms-already-registered = Bu raqam bilan hisob bor. Hisobga kiring yoki parolni tiklang.
sms-phone-changed = Hisobingizning telefon raqami o'zgardi. Buni siz qilmagan bo'lsangiz, yordam xizmatiga murojaat qiling.
