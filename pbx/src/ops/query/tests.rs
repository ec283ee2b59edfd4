use super::*;

struct Fruit {
    name: &'static str,
    price: i64,
    eaten: Option<Timestamp>,
    from: Prefix,
}

impl Row for &Fruit {
    const FIELDS: &'static [(&'static str, Kind)] =
        &[("name", Kind::Text), ("price", Kind::Number), ("eaten", Kind::Time), ("from", Kind::Address)];

    fn field(&self, index: usize) -> Value<'_> {
        match index {
            0 => Value::Text(self.name.into()),
            1 => Value::Number(self.price),
            2 => self.eaten.map_or(Value::Null, Value::Time),
            _ => Value::Address(self.from),
        }
    }
}

fn fruits() -> Vec<Fruit> {
    let at = |text: &str| Some(text.parse().unwrap());
    let from = |text: &str| address::parse(text).unwrap().prefix;
    vec![
        Fruit { name: "Apple", price: 3, eaten: None, from: from("192.0.2.0/24") },
        Fruit { name: "Pear", price: 5, eaten: at("2026-01-01T00:00:00Z"), from: from("198.51.100.7") },
        Fruit { name: "Plum's", price: 5, eaten: at("2026-02-01T00:00:00Z"), from: from("2001:db8::/32") },
    ]
}

fn names(options: &ListOptions) -> Vec<&'static str> {
    let fruits = fruits();
    Query::parse::<&Fruit>(options).unwrap().page(fruits.iter()).items.iter().map(|fruit| fruit.name).collect()
}

fn filtered(filter: &str) -> Vec<&'static str> {
    names(&ListOptions { filter: Some(filter.into()), ..ListOptions::default() })
}

fn refused(filter: &str) -> String {
    Query::parse::<&Fruit>(&ListOptions { filter: Some(filter.into()), ..ListOptions::default() }).unwrap_err()
}

#[test]
fn conditions_compare_text_numbers_times_and_addresses() {
    assert_eq!(filtered("name eq 'apple'"), ["Apple"]);
    assert_eq!(filtered("name eq 'Plum''s'"), ["Plum's"]);
    assert_eq!(filtered("price ge 5"), ["Pear", "Plum's"]);
    assert_eq!(filtered("price lt 5"), ["Apple"]);
    assert_eq!(filtered("eaten gt 2026-01-15T00:00:00Z"), ["Plum's"]);
    assert_eq!(filtered("from eq '192.0.2.0/24'"), ["Apple"]);
    assert_eq!(filtered("contains(name,'P')"), ["Apple", "Pear", "Plum's"]);
    assert_eq!(filtered("startswith(from, '198.')"), ["Pear"]);
    assert_eq!(filtered("endswith(name,'r')"), ["Pear"]);
}

#[test]
fn a_missing_value_is_only_equal_to_null() {
    assert_eq!(filtered("eaten eq null"), ["Apple"]);
    assert_eq!(filtered("eaten ne null"), ["Pear", "Plum's"]);
    assert_eq!(filtered("eaten lt 2027-01-01T00:00:00Z"), ["Pear", "Plum's"]);
}

#[test]
fn and_binds_closer_than_or_and_brackets_bind_closest() {
    assert_eq!(filtered("price eq 3 or price eq 5 and name eq 'pear'"), ["Apple", "Pear"]);
    assert_eq!(filtered("(price eq 3 or price eq 5) and name eq 'pear'"), ["Pear"]);
}

#[test]
fn rows_are_sorted_then_cut() {
    let by = |orderby: &str, top, skip| {
        names(&ListOptions { orderby: Some(orderby.into()), top, skip, ..ListOptions::default() })
    };
    assert_eq!(by("price desc, name desc", None, None), ["Plum's", "Pear", "Apple"]);
    assert_eq!(by("eaten", None, None), ["Apple", "Pear", "Plum's"]);
    assert_eq!(by("name", Some(1), Some(1)), ["Pear"]);
    assert_eq!(by("name", Some(1), Some(9)), [""; 0]);
}

#[test]
fn the_count_is_of_all_matching_rows() {
    let fruits = fruits();
    let options =
        ListOptions { filter: Some("price eq 5".into()), top: Some(1), count: Some(true), ..ListOptions::default() };
    let page = Query::parse::<&Fruit>(&options).unwrap().page(fruits.iter());
    assert_eq!((page.count, page.items.len()), (Some(2), 1));
}

#[test]
fn a_search_finds_text_and_ranges_around_an_address() {
    let search = |text: &str| names(&ListOptions { search: Some(text.into()), ..ListOptions::default() });
    assert_eq!(search("PEA"), ["Pear"]);
    assert_eq!(search("192.0.2.77"), ["Apple"]);
    assert_eq!(search("2001:db8:1::1"), ["Plum's"]);
}

#[test]
fn an_error_says_what_is_there() {
    assert!(refused("colour eq 'red'").contains("name, price, eaten, from"));
    assert!(refused("name is 'x'").contains("eq, ne"));
    assert!(refused("name eq apple").contains("name eq 'apple'"));
    assert!(refused("price eq 'x'").contains("whole number"));
    assert!(refused("price eq 5 price eq 6").contains("and, or"));
    assert!(refused("from gt '10.0.0.0/8'").contains("eq and ne"));
    assert!(refused("contains(price,'1')").contains("works on text"));
    let top = Query::parse::<&Fruit>(&ListOptions { top: Some(101), ..ListOptions::default() }).unwrap_err();
    assert!(top.contains("1 to 100"));
}

#[test]
fn no_text_makes_the_parser_fall() {
    let pieces = ["(", ")", "'", ",", "name", "eq", "and", "or", "null", "5", "\u{e4}", " ", "contains", "''", "-"];
    let mut state = 1_u64;
    for _ in 0..20_000 {
        let mut text = String::new();
        for _ in 0..8 {
            state = state.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
            text.push_str(pieces[(state >> 33) as usize % pieces.len()]);
            if state & (1 << 60) != 0 {
                text.push(' ');
            }
        }
        let _ = Query::parse::<&Fruit>(&ListOptions { filter: Some(text), ..ListOptions::default() });
    }
    assert!(refused(&"(".repeat(1000)).contains("deep"));
    assert!(refused(&"x".repeat(3000)).contains("too many"));
}
