//! Phones that nobody here wrote register, are shown, and end.

use anyhow::{Result, ensure};
use pbx_tests::phone::Baresip;
use serde_json::Value;

use super::{Site, TCP, TLS, on_site};

#[test]
fn baresip_registers_over_udp_tcp_and_tls_with_its_password() {
    on_site(|site, daemon| {
        site.offer_md5_alone()?;
        let good = &site.lab.good;
        let ways = [
            ("200", "udp", String::new(), 5060),
            ("201", "tcp", format!(":{TCP};transport=tcp"), TCP),
            ("202", "tls", format!(":{TLS};transport=tls"), TLS),
        ];
        let mut phones = Vec::new();
        for (number, protocol, over, port) in &ways {
            let password = site.add(number)?;
            let phone = site.baresip(good, number, &password, over)?;
            let shown = wait_there(site, &phone, number)?;
            assert!(shown["protocol"].as_str().is_some_and(|shown| shown.eq_ignore_ascii_case(protocol)), "{shown:#}");
            assert_eq!(shown["reachable"], true, "{shown:#}");
            assert_eq!(shown["behind_nat"], false, "{shown:#}");
            let (remote, local) = (shown["remote"].to_string(), shown["local"].to_string());
            assert!(remote.contains(&format!("{}:", good.v4())), "{shown:#}");
            assert!(local.contains(&format!("{}:{port}", good.appliance_v4())), "{shown:#}");
            site.assert_answers(number)?;
            phones.push(phone);
        }
        let explained = site.pbx.pbx(&format!("explain {}", good.v4()))?;
        for list in ["registered", "known"] {
            let mut numbers: Vec<&str> = explained[list]
                .as_array()
                .into_iter()
                .flatten()
                .filter_map(|one| one["extension_number"].as_str())
                .collect();
            numbers.sort_unstable();
            assert_eq!(numbers, ["200", "201", "202"], "{explained:#}");
        }
        let known = explained["steps"].as_array().into_iter().flatten().find(|step| step["tier"] == "known sources");
        assert!(known.is_some_and(|step| step["decides"] == true), "{explained:#}");
        // Each takes its registration back when it ends.
        phones.into_iter().try_for_each(Baresip::end)?;
        for (number, ..) in &ways {
            site.wait_registered(number, <[Value]>::is_empty)?;
        }
        daemon.stop()
    });
}

#[test]
fn a_wrong_password_does_not_register_over_any_transport() {
    on_site(|site, daemon| {
        site.offer_md5_alone()?;
        let good = &site.lab.good;
        site.add("200")?;
        // Neither phone waits before it tries again, and silence is no answer to look at.
        site.without_detectors()?;
        site.pbx.pbx("guard set sip.challenges.source=1000")?;
        for over in [String::new(), format!(":{TCP};transport=tcp"), format!(":{TLS};transport=tls")] {
            let phone = site.baresip(good, "200", "Not-the-0ne", &over)?;
            phone.wait("401 Unauthorized")?;
            ensure!(!phone.said().contains("200 OK"), "{}", phone.said());
        }
        for (line, password) in [(site.udp(good)?, "wrong"), (site.tcp(good)?, ""), (site.tls(good)?, "Not-the-0ne")] {
            let mut line = line;
            assert_eq!(line.register("200", password)?, 401, "{line:?}");
        }
        assert_eq!(site.registered("200")?, [] as [Value; 0]);
        assert_eq!(site.pbx.pbx(&format!("explain {}", good.v4()))?["known"], Value::Array(Vec::new()));
        daemon.stop()
    });
}

#[test]
fn another_password_the_end_of_an_extension_and_a_drop_end_registrations() {
    on_site(|site, daemon| {
        site.offer_md5_alone()?;
        let good = &site.lab.good;
        let numbers = ["200", "201", "202", "203"];
        let mut passwords = Vec::new();
        let mut phones = Vec::new();
        for number in numbers {
            let password = site.add(number)?;
            let phone = site.baresip(good, number, &password, "")?;
            wait_there(site, &phone, number)?;
            passwords.push(password);
            phones.push(phone);
        }
        site.pbx.feed("ext passwd 200 --password-stdin", "Qx7-vT2m-Kd9w\n")?.ok()?;
        site.pbx.pbx("ext remove 201 --yes")?;
        site.pbx.pbx("reg drop 202")?;
        site.pbx.pbx("ext set 203 --disable")?;
        for number in numbers {
            assert_eq!(site.registered(number)?, [] as [Value; 0], "{number}");
        }
        // Who was dropped may return; the others may not, unless they know what is right now.
        let mut line = site.udp(good)?;
        assert_eq!(line.register("200", &passwords[0])?, 401);
        assert_eq!(line.register("200", "Qx7-vT2m-Kd9w")?, 200);
        assert_eq!(line.register("201", &passwords[1])?, 401);
        assert_eq!(line.register("202", &passwords[2])?, 200);
        assert_eq!(line.register("203", &passwords[3])?, 401);
        site.pbx.pbx("ext set 203 --enable")?;
        assert_eq!(line.register("203", &passwords[3])?, 200);
        daemon.stop()
    });
}

/// Waits until a phone and the daemon agree that it is registered; how the daemon shows it.
fn wait_there(site: &Site, phone: &Baresip, number: &str) -> Result<Value> {
    phone.wait_registered()?;
    let mut list = site.wait_registered(number, |list| !list.is_empty())?;
    ensure!(list.len() == 1, "{list:#?}");
    Ok(list.remove(0))
}
