use chrono::DateTime;

use super::*;

/// Noon.
const START: i64 = 1_767_268_800;

fn at(seconds: i64) -> Timestamp {
    DateTime::from_timestamp(START + seconds, 0).unwrap()
}

fn number(text: &str) -> PhoneNumber {
    PhoneNumber::parse(text, None).unwrap()
}

#[test]
fn bounds_are_read_and_written() {
    for (text, hour, day) in [
        ("none", None, None),
        ("5/h", Some(5), None),
        ("20/d", None, Some(20)),
        ("5/h,20/d", Some(5), Some(20)),
    ] {
        assert_eq!(text.parse(), Ok(Bounds { hour, day }), "{text}");
        assert_eq!(Bounds { hour, day }.to_string(), text);
    }
    assert_eq!("20/d, 5/h".parse::<Bounds>().unwrap().to_string(), "5/h,20/d");
    for bad in [
        "",
        "5",
        "0/h",
        "-1/h",
        "5/m",
        "5/h,",
        "5/h,6/h",
        "5/h,none",
        "4294967296/h",
        "5/H",
    ] {
        assert_eq!(bad.parse::<Bounds>(), Err(BoundsError), "{bad:?}");
    }
}

#[test]
fn a_prefix_is_all_but_four_digits() {
    for (one, other, is_same) in [
        ("+998901234567", "+998901239999", true),
        ("+998901234567", "+998901244567", false),
        ("+12015550123", "+12015559876", true),
    ] {
        let ids = [one, other].map(|text| Counted::Prefix(&number(text)).id());
        assert_eq!(ids[0] == ids[1], is_same, "{one} {other}");
    }
}

#[test]
fn an_address_of_ipv6_counts_by_its_network() {
    let id = |text: &str| Counted::Address(text.parse().unwrap()).id();
    assert_eq!(id("2001:db8::1"), id("2001:db8::ffff:1"));
    assert_ne!(id("2001:db8::1"), id("2001:db8:0:1::1"));
    assert_eq!(id("::ffff:192.0.2.1"), id("192.0.2.1"));
    let (one, neighbour) = (number("+998901234567"), number("+998901239999"));
    let pairs = |number, text: &str| {
        let address = text.parse().unwrap();
        [
            Counted::NumberFrom(number, address).id(),
            Counted::PrefixFrom(number, address).id(),
        ]
    };
    let of_one = pairs(&one, "2001:db8::1");
    assert_eq!(of_one, pairs(&one, "2001:db8::2"));
    assert_ne!(of_one[0], pairs(&neighbour, "2001:db8::1")[0]);
    assert_eq!(of_one[1], pairs(&neighbour, "2001:db8::1")[1]);
    for (here, there) in of_one.iter().zip(pairs(&one, "192.0.2.1")) {
        assert_ne!(*here, there);
    }
}

#[test]
fn an_hour_and_a_day_have_their_bounds() {
    let bounds: Bounds = "2/h,3/d".parse().unwrap();
    let mut counter = Counter::new(at(0));
    let mut add = |seconds| {
        let added = counter.add(&bounds, 1, at(seconds));
        if let Ok(added) = added {
            counter = added;
        }
        added.err().map(|wait| wait.as_secs())
    };
    assert_eq!(add(0), None);
    assert_eq!(add(600), None);
    // Two in this hour, which ends at 13:00.
    assert_eq!(add(601), Some(2999));
    assert_eq!(add(3599), Some(1));
    assert_eq!(add(3600), None);
    // Three today, which ends at midnight.
    assert_eq!(add(3601), Some(12 * 3600 - 3601));
    assert_eq!(add(12 * 3600 - 1), Some(1));
    assert_eq!(add(12 * 3600), None);
}

/// Clocks of replicas differ a little, and sometimes much.
#[test]
fn a_window_of_the_future_is_kept_only_if_it_is_the_next() {
    let bounds: Bounds = "1/h".parse().unwrap();
    let next = Counter::new(at(3600)).add(&bounds, 1, at(3600)).unwrap();
    assert_eq!(next.add(&bounds, 1, at(3599)).unwrap_err().as_secs(), 3601);
    let wrong = Counter::new(at(365 * 86_400))
        .add(&bounds, 1, at(365 * 86_400))
        .unwrap();
    assert!(wrong.add(&bounds, 1, at(0)).is_ok());
}

const TRIPWIRE: Tripwire = Tripwire {
    asked: 10,
    verified_percent: 20,
    pause: Duration::from_hours(1),
};
const LIFETIME: Duration = Duration::from_mins(5);

/// Asks for so many codes at once.
fn asked(mut usage: Usage, count: u32, now: Timestamp) -> Tripped {
    let mut tripped = Tripped::No(usage);
    for _ in 0..count {
        match usage.look(&TRIPWIRE, LIFETIME, now) {
            Tripped::No(looked) => usage = looked.counted(),
            paused @ (Tripped::Now(..) | Tripped::Before(_)) => return paused,
        }
        tripped = Tripped::No(usage);
    }
    tripped
}

fn usage(tripped: Tripped) -> Usage {
    match tripped {
        Tripped::No(usage) | Tripped::Now(usage, _) => usage,
        Tripped::Before(_) => panic!("{tripped:?}"),
    }
}

#[test]
fn codes_that_nobody_uses_pause_a_prefix_when_their_time_is_over() {
    let start = Usage::new(at(0));
    // There was no time to use them.
    let many = usage(asked(start, 1000, at(299)));
    assert!(matches!(many.look(&TRIPWIRE, LIFETIME, at(299)), Tripped::No(_)));
    let Tripped::Now(paused, pause) = many.look(&TRIPWIRE, LIFETIME, at(300)) else {
        panic!("not paused");
    };
    assert_eq!(pause, TRIPWIRE.pause);
    assert_eq!(
        paused.look(&TRIPWIRE, LIFETIME, at(301)),
        Tripped::Before(pause - Duration::from_secs(1))
    );
    // And then it begins anew.
    let Tripped::No(anew) = paused.look(&TRIPWIRE, LIFETIME, at(300 + 3600)) else {
        panic!("still paused");
    };
    assert_eq!((anew.asked, anew.asked_lately, anew.verified), (0, 0, 0));
}

#[test]
fn few_codes_say_nothing_and_used_ones_pause_nobody() {
    let nine = usage(asked(Usage::new(at(0)), 9, at(0)));
    assert!(matches!(nine.look(&TRIPWIRE, LIFETIME, at(300)), Tripped::No(_)));
    let ten = usage(asked(Usage::new(at(0)), 10, at(0)));
    for (verified, is_paused) in [(0, true), (1, true), (2, false), (10, false)] {
        let tripped = Usage { verified, ..ten }.look(&TRIPWIRE, LIFETIME, at(300));
        assert_eq!(matches!(tripped, Tripped::Now(..)), is_paused, "{verified}");
    }
}

/// Before their time is over nobody knows whether they are used.
#[test]
fn so_many_codes_that_are_not_used_yet_are_in_doubt() {
    for (asked_before, asked_lately, verified, is_in_doubt) in [
        (0, 9, 0, false),
        (0, 10, 0, true),
        (0, 10, 1, true),
        (0, 10, 2, false),
        (9, 1, 1, true),
        (9, 1, 2, false),
    ] {
        let usage = Usage {
            asked: asked_before,
            asked_lately,
            verified,
            ..Usage::new(at(0))
        };
        assert_eq!(usage.is_in_doubt(&TRIPWIRE), is_in_doubt, "{usage:?}");
    }
}

/// One address has a third of what there is for all, and strangers four fifths; none of it is nothing.
#[test]
fn nobody_alone_can_use_up_a_bound() {
    let parts = |text: &str| {
        let bounds: Bounds = text.parse().unwrap();
        (
            bounds.of_an_address().to_string(),
            bounds.of_strangers().to_string(),
        )
    };
    for (all, of_an_address, of_strangers) in [
        ("none", "none", "none"),
        ("10/h,20/d", "4/h,7/d", "8/h,16/d"),
        ("100/h", "34/h", "80/h"),
        ("1/d", "1/d", "1/d"),
        ("4/d", "2/d", "4/d"),
        ("5/d", "2/d", "4/d"),
    ] {
        let expected = (of_an_address.to_owned(), of_strangers.to_owned());
        assert_eq!(parts(all), expected, "{all}");
    }
    for (asked, of_an_address) in [(30, 10), (10, 4), (1, 1)] {
        let tripwire = Tripwire { asked, ..TRIPWIRE };
        assert_eq!(tripwire.of_an_address().asked, of_an_address);
    }
}

/// However long a prefix was good, it does not take longer to see that it is not any more.
#[test]
fn what_was_long_ago_counts_less_and_less() {
    let mut good = Usage::new(at(0));
    let mut now = 0;
    for _ in 0..1000 {
        good = usage(asked(good, 5, at(now)));
        good.verified += 5;
        now += 300;
    }
    assert!(good.asked <= TRIPWIRE.asked * 4, "{good:?}");
    let mut bad = 0;
    loop {
        now += 300;
        match asked(good, 10, at(now)) {
            Tripped::No(next) => good = next,
            _ => break,
        }
        bad += 10;
    }
    assert!((20..=150).contains(&bad), "{bad}");
    // After a week without any, nothing is held against it.
    let old = Usage {
        asked: 39,
        verified: 0,
        ..Usage::new(at(0))
    };
    assert!(matches!(
        old.look(&TRIPWIRE, LIFETIME, at(7 * 86_400)),
        Tripped::No(_)
    ));
}

#[test]
fn amounts_are_exact() {
    for (text, millionths, written) in [
        ("0", 0, "0.00"),
        ("12.5", 12_500_000, "12.50"),
        ("0.012", 12_000, "0.012"),
        ("0.000001", 1, "0.000001"),
        ("1000000000", 1_000_000_000_000_000, "1000000000.00"),
    ] {
        let amount: Amount = text.parse().unwrap();
        assert_eq!(
            (amount.millionths(), amount.to_string().as_str()),
            (millionths, written),
            "{text}"
        );
    }
    for bad in [
        "",
        ".",
        "1.",
        ".5",
        "-1",
        "+1",
        "1,5",
        "1e3",
        "0.0000001",
        "1000000001",
        "99999999999999999999",
        "٣",
    ] {
        assert_eq!(bad.parse::<Amount>(), Err(AmountError), "{bad:?}");
    }
}

#[test]
fn prices_are_by_country_and_say_what_is_wrong_with_them() {
    let prices = Prices::parse("# EUR\nUZ\t0.012\n\nus\t0.05\r\n001\t3\n*\t0.2\n").unwrap();
    let of = |country| prices.of(country).to_string();
    assert_eq!(
        (of("UZ"), of("US"), of("001"), of("KZ"), of("unknown")),
        (
            "0.012".to_owned(),
            "0.05".to_owned(),
            "3.00".to_owned(),
            "0.20".to_owned(),
            "0.20".to_owned()
        )
    );
    for (text, error) in [
        ("", PriceError::NoOthers),
        ("UZ\t1\n", PriceError::NoOthers),
        ("*\t1\nUZ 1\n", PriceError::Line(2)),
        ("*\t1\n\nXX\t1\n", PriceError::Line(3)),
        ("*\t1\nUZ\tfree\n", PriceError::Line(2)),
        ("*\t1\nUZ\t1\nuz\t2\n", PriceError::Twice(3)),
        (&"#".repeat(MAX_LENGTH + 1), PriceError::TooLong),
    ] {
        assert_eq!(Prices::parse(text), Err(error), "{text:.20}");
    }
}

const MAX_LENGTH: usize = 64 * 1024;

fn limits(countries: &str, line_types: &str) -> SmsLimits {
    SmsLimits {
        countries: countries
            .split_terminator(',')
            .map(|code| code.parse().unwrap())
            .collect(),
        line_types: line_types.split(',').map(|name| name.parse().unwrap()).collect(),
        number: Bounds::default(),
        prefix: Bounds::default(),
        address: Bounds::default(),
        service: Bounds::default(),
        country: Bounds::default(),
        budget: None,
        tripwire: None,
    }
}

#[test]
fn messages_reach_the_line_types_and_countries_that_are_listed() {
    let mobile = "mobile,fixed_line_or_mobile";
    for (countries, line_types, text, expected) in [
        // Uzbekistan: mobile, and a landline of Tashkent.
        ("", mobile, "+998901234567", true),
        ("", mobile, "+998711234567", false),
        ("", "fixed_line", "+998711234567", true),
        // USA: nobody knows which it is.
        ("", mobile, "+12015550123", true),
        // United Kingdom: mobile, pager, toll free.
        ("", mobile, "+447400123456", true),
        ("", mobile, "+447640123456", false),
        ("", mobile, "+448001234567", false),
        // Of a possible length, and no valid number.
        ("", mobile, "+998001234567", false),
        ("UZ,KZ", mobile, "+998901234567", true),
        ("UZ,KZ", mobile, "+77012345678", true),
        // The same calling code, and another country.
        ("UZ,KZ", mobile, "+79161234567", false),
        ("US", mobile, "+14165550123", false),
        // Of no country.
        ("UZ", "voip", "+883510000000092", false),
    ] {
        let limits = limits(countries, line_types);
        assert_eq!(
            limits.reaches(&number(text)),
            expected,
            "{countries} {line_types} {text}"
        );
    }
}
