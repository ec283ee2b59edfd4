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

#[test]
fn an_encrypted_backup_is_put_back_by_command_and_phones_register_as_before() {
    on_site(|site, daemon| {
        let password = site.add("200")?;
        site.pbx.pbx("block add 192.0.2.7 --reason kept")?;
        let file = site.sandbox.directory().join("all.age");
        let secret = site.sandbox.directory().join("passphrase");
        std::fs::write(&secret, "correct horse battery staple\n")?;
        let (file, phrase) = (file.display(), format!("--passphrase-file {}", secret.display()));
        let made = site.pbx.pbx(&format!("backup create --to {file} {phrase}"))?;
        assert_eq!(made["manifest"]["has_key"], true, "{made:#}");

        // Without its passphrase it says nothing; damaged neither; the daemon that runs is not replaced.
        site.pbx.try_pbx(&format!("backup verify {file}"))?.refused(2, &["passphrase"])?;
        let wrong = site.sandbox.directory().join("wrong");
        std::fs::write(&wrong, "something else\n")?;
        site.pbx
            .try_pbx(&format!("backup verify {file} --passphrase-file {}", wrong.display()))?
            .refused(1, &["passphrase"])?;
        let verified = site.pbx.pbx(&format!("backup verify {file} {phrase}"))?;
        assert_eq!(verified["manifest"]["database_sha256"], made["manifest"]["database_sha256"]);
        let config = site.pbx.config().display().to_string();
        let restore = format!("backup restore {file} --config {config} {phrase} --yes");
        site.pbx.try_pbx(&restore)?.refused(7, &["stop it first"])?;

        site.pbx.pbx("ext remove 200 --yes")?;
        site.pbx.pbx("block remove 192.0.2.7")?;
        daemon.stop()?;
        let restored = site.pbx.pbx(&restore)?;
        let old = restored["old"].as_str().map(std::path::PathBuf::from);
        assert!(old.is_some_and(|old| old.exists()), "{restored:#}");

        let daemon = site.pbx.start()?;
        assert_eq!(site.udp(&site.lab.good)?.register("200", &password)?, 200);
        let blocks = site.pbx.pbx("block list")?;
        assert!(pbx_tests::daemon::find(&blocks, "192.0.2.7").is_some(), "{blocks:#}");
        daemon.stop()
    });
}
