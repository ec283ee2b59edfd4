//! The bans in fail2ban's database, to be taken over. Reads another program's file; writes nothing into it.

use std::{
    collections::BTreeMap,
    fmt::Write as _,
    path::{Path, PathBuf},
    time::Duration,
};

use pbx_core::{
    address::{self, Prefix},
    rule::MAX_LINES,
    time::Timestamp,
};
use sqlx::{ConnectOptions as _, Connection as _, Row as _, sqlite::SqliteConnectOptions};

/// How long to wait for fail2ban to let go of its database.
const BUSY_TIMEOUT: Duration = Duration::from_secs(5);

/// What is in the database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Bans {
    /// Who is banned, until when (nothing: for ever), and by which jail.
    pub bans: BTreeMap<Prefix, (Option<Timestamp>, String)>,
    /// Bans that have ended.
    pub over: usize,
    /// Bans of something that is no address.
    pub odd: usize,
}

/// It is no database of fail2ban's, or cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("cannot read the bans in {}: {message}", path.display())]
pub struct BansError {
    path: PathBuf,
    message: String,
}

/// Reads the bans that last at `now`. Of several of one address the one that ends last counts.
pub async fn read(path: &Path, now: Timestamp) -> Result<Bans, BansError> {
    let failed = |message: String| BansError { path: path.to_path_buf(), message };
    let said = |error: sqlx::Error| {
        let text = error.to_string();
        let hint = match &error {
            sqlx::Error::Database(error) if error.message().contains("no such") => {
                "; is it fail2ban's, of version 0.11 or later?"
            }
            _ => "",
        };
        failed(format!("{text}{hint}"))
    };
    // SQLite would say only that it cannot open it.
    tokio::fs::File::open(path).await.map_err(|error| failed(error.to_string()))?;
    let options = SqliteConnectOptions::new().filename(path).read_only(true).busy_timeout(BUSY_TIMEOUT);
    let mut connection = options.connect().await.map_err(said)?;
    let rows = sqlx::query(
        "SELECT CAST(ip AS TEXT), CAST(jail AS TEXT), CAST(timeofban AS INTEGER), CAST(bantime AS INTEGER)
         FROM bans WHERE ip IS NOT NULL ORDER BY timeofban DESC LIMIT ?",
    )
    .bind(i64::try_from(MAX_LINES).unwrap_or(i64::MAX))
    .fetch_all(&mut connection)
    .await
    .map_err(said)?;
    // Nothing was written that closing could lose.
    let _ = connection.close().await;
    let mut found = Bans::default();
    for row in &rows {
        let (ip, jail): (&str, &str) = (row.get(0), row.get(1));
        let (begin, lasts): (i64, i64) = (row.get(2), row.get(3));
        // Anything below nothing is for ever.
        let end = (lasts >= 0)
            .then(|| Timestamp::from_millis(begin.saturating_add(lasts).saturating_mul(1000)).min(Timestamp::MAX));
        let Ok(typed) = address::parse(ip) else {
            found.odd += 1;
            continue;
        };
        if end.is_some_and(|end| end <= now) {
            found.over += 1;
            continue;
        }
        let known = found.bans.entry(typed.prefix).or_insert_with(|| (end, jail.to_owned()));
        known.0 = known.0.zip(end).map(|(one, other)| one.max(other));
    }
    Ok(found)
}

impl Bans {
    /// The bans as a list that an import reads.
    pub fn csv(&self) -> String {
        let mut text = "cidr,target,description,expire_at\n".to_owned();
        for (prefix, (end, jail)) in &self.bans {
            let jail: String = jail.chars().filter(|char| !char.is_control() && *char != '"').take(100).collect();
            let end = end.map(|end| end.to_string()).unwrap_or_default();
            // Writing into a text cannot fail.
            let _ = writeln!(text, "{prefix},block,\"fail2ban {jail}\",{end}");
        }
        text
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: Timestamp = Timestamp::from_millis(1_795_412_400_000);

    /// A database as fail2ban 1.0 makes it.
    async fn database(folder: &Path, rows: &[(&str, &str, i64, i64)]) -> PathBuf {
        let path = folder.join("fail2ban.sqlite3");
        let options = SqliteConnectOptions::new().filename(&path).create_if_missing(true);
        let mut connection = options.connect().await.unwrap();
        sqlx::query(
            "CREATE TABLE bans (jail TEXT NOT NULL, ip TEXT, timeofban INTEGER NOT NULL, bantime INTEGER NOT NULL,
             bancount INTEGER NOT NULL default 1, data JSON)",
        )
        .execute(&mut connection)
        .await
        .unwrap();
        for (jail, ip, begin, lasts) in rows {
            sqlx::query("INSERT INTO bans (jail, ip, timeofban, bantime, data) VALUES (?, ?, ?, ?, '{}')")
                .bind(jail)
                .bind(ip)
                .bind(begin)
                .bind(lasts)
                .execute(&mut connection)
                .await
                .unwrap();
        }
        connection.close().await.unwrap();
        path
    }

    #[tokio::test]
    async fn bans_that_last_are_read_with_their_ends_and_the_others_are_counted() {
        let folder = tempfile::tempdir().unwrap();
        let now = NOW.as_millis() / 1000;
        let path = database(
            folder.path(),
            &[
                ("sshd", "192.0.2.1", now - 100, 600),
                ("asterisk", "192.0.2.1", now - 50, 3600),
                ("sshd", "192.0.2.2", now - 100, -1),
                ("sshd", "192.0.2.2", now - 10, 60),
                ("sshd", "192.0.2.3", now - 600, 600),
                ("sshd", "2001:db8::1", now, 60),
                ("sshd", "an.example.com", now, 60),
            ],
        )
        .await;
        let before = std::fs::read(&path).unwrap();
        let bans = read(&path, NOW).await.unwrap();
        assert_eq!((bans.over, bans.odd), (1, 1));
        assert_eq!(
            bans.csv(),
            "cidr,target,description,expire_at\n\
             192.0.2.1,block,\"fail2ban asterisk\",2026-11-23T06:39:10Z\n\
             192.0.2.2,block,\"fail2ban sshd\",\n\
             2001:db8::1,block,\"fail2ban sshd\",2026-11-23T05:41:00Z\n"
        );
        assert_eq!(std::fs::read(&path).unwrap(), before);
        assert_eq!(std::fs::read_dir(folder.path()).unwrap().count(), 1);
    }

    #[tokio::test]
    async fn what_is_no_database_of_fail2ban_is_refused() {
        let folder = tempfile::tempdir().unwrap();
        let missing = read(&folder.path().join("none"), NOW).await.unwrap_err().to_string();
        assert!(missing.contains("No such file"), "{missing}");
        let text = folder.path().join("text");
        std::fs::write(&text, "192.0.2.1\n".repeat(1000)).unwrap();
        let error = read(&text, NOW).await.unwrap_err().to_string();
        assert!(error.contains("not a database"), "{error}");
        let other = folder.path().join("other");
        let mut connection =
            SqliteConnectOptions::new().filename(&other).create_if_missing(true).connect().await.unwrap();
        sqlx::query("CREATE TABLE calls (id INTEGER)").execute(&mut connection).await.unwrap();
        connection.close().await.unwrap();
        let error = read(&other, NOW).await.unwrap_err().to_string();
        assert!(error.contains("is it fail2ban's"), "{error}");
    }
}
