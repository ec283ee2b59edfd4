//! Accounts by the command line: what is refused names the field, and the row, and nothing is half done.

use super::on_site;

#[test]
fn an_extension_twice_a_weak_password_and_a_bad_row_are_named_and_change_nothing() {
    on_site(|site, daemon| {
        let password = site.add("200")?;
        let before = site.pbx.pbx("ext list")?;
        site.pbx.try_pbx("ext add 200")?.refused(2, &["extension_number: 200 is taken"])?;
        site.pbx.feed("ext add 201 --password-stdin", "201201aaa\n")?.refused(
            2,
            &["extension_password", "upper-case letter or a special", "three times in a row", "extension number"],
        )?;
        site.pbx.feed("ext passwd 200 --password-stdin", "Abcd\n")?.refused(2, &["extension_password", "8 to 32"])?;
        site.pbx.try_pbx("ext add 1125")?.refused(2, &["extension_number", "112"])?;

        let list = site.sandbox.directory().join("list.csv");
        let row = |row: u32| match row {
            517 => "12x,Phone\n".to_owned(),
            row => format!("{},Phone\n", 3000 + row),
        };
        std::fs::write(&list, format!("number,name\n{}", (2..=600).map(row).collect::<String>()))?;
        let import = format!("ext import {}", list.display());
        site.pbx.try_pbx(&import)?.refused(2, &["nothing was imported, 1 bad row", "row 517: number:", "'x'"])?;

        assert_eq!(site.pbx.pbx("ext list")?, before);
        assert_eq!(site.udp(&site.lab.good)?.register("200", &password)?, 200);
        daemon.stop()
    });
}
