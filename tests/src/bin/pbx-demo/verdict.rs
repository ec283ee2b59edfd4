//! What has to hold of the pass in which the filter enforces.

use crate::{acts::Act, figures::Row, scene::Pass, table::grouped};

/// What failed, a sentence each; nothing: the demo succeeded. Of the call no act may lose more than `loss` percent.
pub(crate) fn failures(pass: &Pass, loss: f64) -> Vec<String> {
    let mut failed = Vec::new();
    for row in &pass.rows {
        let act = row.act;
        if row.call.sent == 0 || row.loss_percent > loss {
            failed.push(format!("{act}: the call lost {:.2} % of its audio, more than {loss} %", row.loss_percent));
        }
        if row.foreign_media > 0 {
            failed.push(format!("{act}: {} packets of somebody else were heard in the call", row.foreign_media));
        }
        if row.to_be_blocked && row.blocked.is_none() {
            failed.push(format!("{act}: the attacker was not blocked"));
        }
        if row.registered < row.registrations || row.registrations == 0 {
            failed.push(format!("{act}: {} of {} registrations succeeded", row.registered, row.registrations));
        }
        for wrong in &row.wrongly_blocked {
            failed.push(format!("{act}: {wrong} is blocked and no attacker"));
        }
    }
    match (pass.hung_up, &pass.call_problem) {
        (Some(200), _) => {}
        (Some(status), _) => failed.push(format!("the hang-up was answered with {status}")),
        (None, problem) => failed.push(format!("the call did not end in order: {}", problem.as_deref().unwrap_or("?"))),
    }
    failed.extend(pass.complaints.iter().map(|line| format!("the daemon complained: {line}")));
    failed
}

/// What stopped those who cannot be blocked.
pub(crate) fn stopped_otherwise(pass: &Pass) -> Vec<String> {
    let of = |row: &Row| {
        if row.act == Act::Forged.name() {
            return Some(format!(
                "{}: the addresses are forged, so there is nobody to block. Of {} requests the kernel dropped {}; the \
                 daemon read {} and answered {}, which is what all strangers together may have. Phones come before \
                 them: of {} registrations {} succeeded, {} messages had to be sent again.",
                row.act,
                grouped(row.attack_packets),
                grouped(row.dropped_in_kernel),
                grouped(row.read_by_daemon),
                grouped(row.answered),
                grouped(row.registrations),
                grouped(row.registered),
                grouped(row.sent_again)
            ));
        }
        let injected = row.act == Act::Injection.name();
        injected.then(|| {
            format!(
                "{}: the relay heard {} packets that were not the phone's and forwarded {} of them.",
                row.act,
                grouped(row.refused_media),
                grouped(row.foreign_media)
            )
        })
    };
    pass.rows.iter().filter_map(of).collect()
}
