//! Block lists of others, from the file to the kernel.

use std::fs;
use std::net::IpAddr;

use pbx_tests::daemon::DEADLINE;
use pbx_tests::flood::Plan;

use super::on_site;

#[test]
fn what_a_feed_lists_is_dropped_by_the_kernel_until_the_feed_drops_it() {
    on_site(|site, daemon| {
        let bad = &site.lab.bad;
        let list = site.sandbox.directory().join("list.txt");
        let sources = [IpAddr::from(bad.v4()), bad.v6().into()];
        fs::write(&list, format!("; a list\n{}\r\n{} # scans\n", sources[0], sources[1]))?;
        let streams = [
            site.send(bad, sources[0], 1, Plan::steady(400, DEADLINE))?,
            site.send(bad, sources[1], 1, Plan::steady(400, DEADLINE))?,
        ];
        for (stream, source) in streams.iter().zip(sources) {
            site.wait_heard(stream, source)?;
        }
        site.pbx.pbx(&format!("feed add others {}", list.display()))?;
        for (stream, source) in streams.iter().zip(sources) {
            site.assert_silent(stream, source, 200)?;
            let explained = site.pbx.shown(&format!("explain {source}"))?;
            assert!(explained.contains("from feed others"), "{explained}");
        }
        // A list that would block the appliance itself leaves everything as it is.
        fs::write(&list, format!("{}\n", bad.appliance_v4()))?;
        assert!(site.pbx.pbx("feed refresh others").is_err());
        site.assert_silent(&streams[0], sources[0], 200)?;
        let shown = site.pbx.shown("feed show others")?;
        assert!(shown.contains("an address of this machine"), "{shown}");
        fs::write(&list, "# nobody\n")?;
        site.pbx.pbx("feed refresh others")?;
        for (stream, source) in streams.into_iter().zip(sources) {
            site.wait_heard(&stream, source)?;
            stream.stop()?;
        }
        site.pbx.pbx("doctor")?;
        daemon.stop()
    });
}
