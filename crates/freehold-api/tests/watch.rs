//! The client against servers that behave badly in exactly the ways that are written here.
#![allow(clippy::unwrap_used, reason = "a test may fail this way")]
#![cfg(feature = "client")]

use freehold_api::client::{Client, Error, Watched};
use freehold_model::{BundleDigest, Code, OperationId, kinds::OperationPhase};
use serde_json::json;
use tokio::{
    io::{AsyncReadExt as _, AsyncWriteExt as _},
    net::TcpListener,
};

const ID: &str = "0198f0a0-0000-7000-8000-000000000001";

/// Answers one connection after the other with the given bytes, hangs up after each, and gives back
/// the heads of the requests in lower case.
async fn scripted(answers: Vec<String>) -> (Client, tokio::task::JoinHandle<Vec<String>>) {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = format!("http://{}", listener.local_addr().unwrap());
    let served = tokio::spawn(async move {
        let mut heads = Vec::new();
        for answer in answers {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = Vec::new();
            while !head.ends_with(b"\r\n\r\n") {
                let mut byte = [0];
                stream.read_exact(&mut byte).await.unwrap();
                head.push(byte[0]);
            }
            let head = String::from_utf8(head).unwrap().to_ascii_lowercase();
            // A refusal comes before the body is read.
            let length = head.split_once("content-length: ").map(|(_, rest)| rest);
            if let (Some(rest), true) = (length, answer.starts_with("HTTP/1.1 200")) {
                let length: usize = rest.lines().next().unwrap().parse().unwrap();
                stream.read_exact(&mut vec![0; length]).await.unwrap();
            }
            heads.push(head);
            stream.write_all(answer.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();
        }
        heads
    });
    (Client::new(&address, None, None).unwrap(), served)
}

const STREAM: &str =
    "HTTP/1.1 200 OK\r\ncontent-type: text/event-stream\r\nconnection: close\r\n\r\n";

fn event(sequence: u64) -> String {
    let data = json!({
        "sequence": sequence, "at": "2026-03-01T12:00:00Z", "state": "S", "message": "m",
    });
    format!("id: {sequence}\nevent: progress\ndata: {data}\n\n")
}

fn end() -> String {
    let data = json!({
        "apiVersion": "freehold.dev/v1alpha1",
        "kind": "Operation",
        "metadata": {"name": "x"},
        "spec": {
            "id": ID, "verb": "migrate", "phase": "Succeeded", "state": "Done",
            "target": {"kind": "Database", "name": "orders"},
            "requestedBy": "ana", "createdAt": "2026-03-01T12:00:00Z",
        },
    });
    format!("event: end\ndata: {data}\n\n")
}

fn refusal(status: &str, code: &str) -> String {
    let body = json!({"error": {"code": code, "message": "no", "request_id": "r-1"}}).to_string();
    format!(
        "HTTP/1.1 {status}\r\ncontent-type: application/json\r\nretry-after: 0\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

fn json_answer(body: &str) -> String {
    format!(
        "HTTP/1.1 200 OK\r\ncontent-type: application/json\r\ncontent-length: {}\r\nconnection: close\r\n\r\n{body}",
        body.len()
    )
}

#[tokio::test]
async fn a_watch_over_broken_connections_loses_and_repeats_nothing() {
    let half = &event(3)[..20];
    let (client, served) = scripted(vec![
        // Broken off in the middle of an event.
        format!("{STREAM}: beat\n\n{}{}{half}", event(1), event(2)),
        // A server that is restarting.
        refusal("503 Service Unavailable", "unavailable"),
        // One that repeats what was told already.
        format!("{STREAM}{}{}", event(2), event(3)),
        format!("{STREAM}{}{}", event(4), end()),
    ])
    .await;
    let mut watch = client.operation_watch(ID.parse().unwrap(), 0);
    let mut seen = Vec::new();
    let ended = loop {
        match watch.next().await.unwrap().unwrap() {
            Watched::Event(event) => seen.push(event.sequence),
            Watched::Ended(view) => break view,
        }
    };
    assert_eq!(seen, [1, 2, 3, 4]);
    assert_eq!(ended.spec.phase, OperationPhase::Succeeded);
    assert!(watch.next().await.unwrap().is_none());
    let resumed: Vec<String> = served
        .await
        .unwrap()
        .iter()
        .map(|head| {
            let (_, rest) = head.split_once("last-event-id: ").unwrap();
            rest.lines().next().unwrap().to_owned()
        })
        .collect();
    assert_eq!(resumed, ["0", "2", "2", "3"]);
}

#[tokio::test]
async fn a_watch_ends_at_once_when_it_is_refused() {
    let (client, _served) = scripted(vec![refusal("404 Not Found", "not_found")]).await;
    let mut watch = client.operation_watch(ID.parse().unwrap(), 0);
    let error = watch.next().await.unwrap_err();
    assert_eq!(
        (error.code(), error.request_id()),
        (Code::NotFound, Some("r-1"))
    );
}

#[tokio::test]
async fn a_read_is_tried_again_and_a_change_is_not() {
    let version = json_answer(r#"{"version":"1","controlPlane":"c"}"#);
    let (client, served) = scripted(vec![
        refusal("503 Service Unavailable", "unavailable"),
        refusal("429 Too Many Requests", "throttled"),
        version,
    ])
    .await;
    assert_eq!(client.version().await.unwrap().version, "1");
    assert_eq!(served.await.unwrap().len(), 3);

    let (client, _served) = scripted(vec![refusal("503 Service Unavailable", "unavailable")]).await;
    assert_eq!(client.login().await.unwrap_err().code(), Code::Unavailable);
}

#[tokio::test]
async fn an_upload_that_is_refused_before_it_was_read_is_sent_again() {
    let digest = BundleDigest::try_from(format!("sha256:{}", "a".repeat(64))).unwrap();
    let accepted = json!({"digest": digest, "bytes": 1, "new": true}).to_string();
    let busy = refusal("429 Too Many Requests", "throttled");
    let (client, served) = scripted(vec![busy.clone(), busy, json_answer(&accepted)]).await;
    let bundle = vec![7; 8 << 20];
    assert!(client.bundle_put(&digest, bundle).await.unwrap().new);
    assert_eq!(served.await.unwrap().len(), 3);
}

#[tokio::test]
async fn a_change_whose_answer_is_lost_is_undetermined() {
    let (client, _served) = scripted(vec![
        "HTTP/1.1 200 OK\r\ncontent-length: 100\r\n\r\n{".to_owned(),
    ])
    .await;
    let id: OperationId = ID.parse().unwrap();
    let error = client.operation_cancel(id).await.unwrap_err();
    assert_eq!(error.code(), Code::Undetermined, "{error:?}");
    assert!(error.hint().unwrap().contains("may or may not"));
}

#[tokio::test]
async fn what_is_not_freehold_is_told_as_such() {
    let page = "HTTP/1.1 404 Not Found\r\ncontent-type: text/html\r\ncontent-length: 6\r\nconnection: close\r\n\r\n<html>";
    let (client, _served) = scripted(vec![page.to_owned()]).await;
    let error = client.login().await.unwrap_err();
    assert!(matches!(error, Error::Garbled { .. }), "{error:?}");
    assert!(error.to_string().contains("404"));

    let (client, _served) = scripted(vec![json_answer("[]")]).await;
    let error = client.login().await.unwrap_err();
    assert!(matches!(error, Error::Garbled { .. }), "{error:?}");
}

#[tokio::test]
async fn a_proxy_whose_server_is_away_is_unavailable() {
    let page = "HTTP/1.1 502 Bad Gateway\r\ncontent-length: 0\r\nconnection: close\r\n\r\n";
    let (client, _served) = scripted(vec![page.to_owned()]).await;
    let error = client.login().await.unwrap_err();
    assert_eq!(error.code(), Code::Unavailable);
}

#[tokio::test]
async fn a_part_of_a_path_cannot_become_two() {
    let (client, served) = scripted(vec![refusal("404 Not Found", "not_found")]).await;
    client
        .token_revoke("../operations/x?y#z")
        .await
        .unwrap_err();
    let heads = served.await.unwrap();
    let line = heads[0].lines().next().unwrap();
    assert_eq!(
        line,
        "delete /v1/tokens/..%2foperations%2fx%3fy%23z http/1.1"
    );
}
