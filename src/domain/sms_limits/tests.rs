use chrono::DateTime;

use super::*;
use crate::domain::network::Network;

/// Noon.
const START: i64 = 1_767_268_800;

fn at(seconds: i64) -> Timestamp {
    DateTime::from_timestamp(START + seconds, 0).unwrap()
}

fn number(text: &str) -> PhoneNumber {
    PhoneNumber::parse(text, None).unwrap()
}

#[test]
fn limits_are_parsed_and_formatted() {
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
    for invalid in [
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
        assert_eq!(invalid.parse::<Bounds>(), Err(BoundsError), "{invalid:?}");
    }
}

#[test]
fn a_prefix_is_a_number_without_its_last_four_digits() {
    for (one, other, is_same) in [
        ("+998901234567", "+998901239999", true),
        ("+998901234567", "+998901244567", false),
        ("+12015550123", "+12015559876", true),
    ] {
        let ids = [one, other].map(|text| Counted::Prefix(&number(text)).id());
        assert_eq!(ids[0] == ids[1], is_same, "{one} {other}");
    }
}

fn network(address: &str) -> Network {
    Network::of(address.parse().unwrap())
}

#[test]
fn an_ipv6_address_counts_at_each_of_its_prefixes() {
    let ids = |address: &str| -> Vec<CounterId> {
        let prefixes = network(address).prefixes();
        prefixes.map(|prefix| Counted::Address(prefix).id()).collect()
    };
    let shared = |one: &str, other: &str| ids(one).iter().filter(|id| ids(other).contains(id)).count();
    assert_eq!(shared("2001:db8:1::1", "2001:db8:1::ffff:1"), 3);
    assert_eq!(shared("2001:db8:1::1", "2001:db8:1:1::1"), 2);
    assert_eq!(shared("2001:db8:1::1", "2001:db8:1:100::1"), 1);
    assert_eq!(shared("2001:db8:1::1", "2001:db8:2::1"), 0);
    assert_eq!(ids("::ffff:192.0.2.1"), ids("192.0.2.1"));
}

/// An internet connection has many /64.
#[test]
fn an_ipv6_source_is_its_widest_network() {
    let number = number("+998901234567");
    let id = |text: &str| Counted::Number(&number).id_from(CodeSource::Network(network(text)));
    assert_eq!(id("2001:db8:1::1"), id("2001:db8:1:ffff:ffff:ffff:ffff:ffff"));
    assert_ne!(id("2001:db8:1::1"), id("2001:db8:2::1"));
    assert_eq!(id("192.0.2.1"), id("::ffff:192.0.2.1"));
    assert_ne!(id("192.0.2.1"), id("192.0.2.2"));
    // Computed by `printf 'sms number from\0\004\300\000\002\001+998901234567' | sha256sum`.
    assert_eq!(
        id("192.0.2.1").0.simple().to_string(),
        "e42ab4c027cf9c5eec7fff83e50c45c8"
    );
}

#[test]
fn different_keys_have_different_hashes() {
    let (one, neighbour) = (number("+998901234567"), number("+998901239999"));
    let here = CodeSource::Network(network("192.0.2.1"));
    let there = CodeSource::Network(network("2001:db8::1"));
    let mut ids = Vec::new();
    for counted in [
        Counted::Number(&one),
        Counted::Number(&neighbour),
        Counted::KnownNumber(&one),
        Counted::Prefix(&one),
        Counted::Service(None),
        Counted::Service(Some("")),
        Counted::Service(Some("shop")),
        Counted::Country("UZ"),
        Counted::Total,
        Counted::Budget,
    ] {
        ids.push(counted.id());
        ids.extend([here, there, CodeSource::Unknown].map(|source| counted.id_from(source)));
    }
    let all = ids.len();
    ids.sort_unstable();
    ids.dedup();
    assert_eq!(ids.len(), all);
    assert_eq!(
        Counted::Prefix(&one).id_from(here),
        Counted::Prefix(&neighbour).id_from(here)
    );
}

#[test]
fn an_hour_and_a_day_have_separate_limits() {
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
    // Two messages in this hour, which ends at 13:00.
    assert_eq!(add(601), Some(2999));
    assert_eq!(add(3599), Some(1));
    assert_eq!(add(3600), None);
    // Three messages today, which ends at midnight.
    assert_eq!(add(3601), Some(12 * 3600 - 3601));
    assert_eq!(add(12 * 3600 - 1), Some(1));
    assert_eq!(add(12 * 3600), None);
}

/// Clocks of replicas differ slightly, and sometimes much.
#[test]
fn a_future_window_is_kept_only_if_it_is_the_next() {
    let bounds: Bounds = "1/h".parse().unwrap();
    let next = Counter::new(at(3600)).add(&bounds, 1, at(3600)).unwrap();
    // The wait is at most an hour, the length of the window.
    assert_eq!(next.add(&bounds, 1, at(3599)).unwrap_err().as_secs(), 3600);
    assert_eq!(next.add(&bounds, 1, at(3000)).unwrap_err().as_secs(), 3600);
    // The window is further ahead than clocks of replicas may differ, so it is discarded.
    assert!(next.add(&bounds, 1, at(2699)).is_ok());
    let tomorrow = at(12 * 3600);
    let daily: Bounds = "1/d".parse().unwrap();
    let next = Counter::new(tomorrow).add(&daily, 1, tomorrow).unwrap();
    assert!(next.add(&daily, 1, at(0)).is_ok());
    let wrong = Counter::new(at(365 * 86_400))
        .add(&bounds, 1, at(365 * 86_400))
        .unwrap();
    assert!(wrong.add(&bounds, 1, at(0)).is_ok());
}

/// One network gets a third of a limit, and strangers get four fifths; each gets at least one.
#[test]
fn no_single_network_can_use_up_a_limit() {
    let parts = |text: &str| {
        let bounds: Bounds = text.parse().unwrap();
        (
            bounds.of_a_network().to_string(),
            bounds.of_strangers().to_string(),
        )
    };
    for (all, of_a_network, of_strangers) in [
        ("none", "none", "none"),
        ("10/h,20/d", "4/h,7/d", "8/h,16/d"),
        ("100/h", "34/h", "80/h"),
        ("1/d", "1/d", "1/d"),
        ("2/d", "1/d", "2/d"),
        ("3/d", "1/d", "3/d"),
        ("4/d", "1/d", "4/d"),
        ("5/d", "2/d", "4/d"),
    ] {
        let expected = (of_a_network.to_owned(), of_strangers.to_owned());
        assert_eq!(parts(all), expected, "{all}");
    }
    for all in 3..1000 {
        let bounds = Bounds {
            hour: Some(all),
            day: None,
        };
        let part = bounds.of_a_network().hour.unwrap();
        assert!(2 * part < all, "{part} of {all}");
    }
}

#[test]
fn amounts_are_parsed_and_formatted_exactly() {
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
    for invalid in [
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
        assert_eq!(invalid.parse::<Amount>(), Err(AmountError), "{invalid:?}");
    }
}

#[test]
fn price_lists_are_parsed_and_errors_name_the_line() {
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

fn reach(countries: &str, line_types: &str) -> Reach {
    Reach {
        countries: countries
            .split_terminator(',')
            .map(|code| code.parse().unwrap())
            .collect(),
        line_types: line_types.split(',').map(|name| name.parse().unwrap()).collect(),
    }
}

#[test]
fn messages_reach_listed_line_types_and_countries_only() {
    let mobile = "mobile,fixed_line_or_mobile";
    for (countries, line_types, text, expected) in [
        // Uzbekistan: mobile, and a landline of Tashkent.
        ("", mobile, "+998901234567", true),
        ("", mobile, "+998711234567", false),
        ("", "fixed_line", "+998711234567", true),
        // USA: the number does not show whether it is mobile.
        ("", mobile, "+12015550123", true),
        // United Kingdom: mobile, pager, toll free.
        ("", mobile, "+447400123456", true),
        ("", mobile, "+447640123456", false),
        ("", mobile, "+448001234567", false),
        // A possible length, but not a valid number.
        ("", mobile, "+998001234567", false),
        ("UZ,KZ", mobile, "+998901234567", true),
        ("UZ,KZ", mobile, "+77012345678", true),
        // The same calling code, but another country.
        ("UZ,KZ", mobile, "+79161234567", false),
        ("US", mobile, "+14165550123", false),
        // Without a country.
        ("UZ", "voip", "+883510000000092", false),
    ] {
        assert_eq!(
            reach(countries, line_types).has(&number(text)),
            expected,
            "{countries} {line_types} {text}"
        );
    }
}
