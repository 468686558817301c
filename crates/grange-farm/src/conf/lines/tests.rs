use serde_json::json;

use super::*;
use crate::conf::{Target, render};

fn export(hosts: Value) -> Export {
    let hosts = hosts.as_object().unwrap().iter();
    Export {
        hosts: hosts.map(|(name, host)| (name.clone(), Properties::try_from(host.clone()).unwrap())).collect(),
        farm: Properties::default(),
    }
}

/// Renders hosts, and returns the text and who is left out.
fn rendered(target: Target, hosts: Value) -> (String, Vec<String>) {
    let rendered = render(target, &export(hosts), &LineOptions::new("db").unwrap()).unwrap();
    let left_out = rendered.left_out.iter().map(|left| format!("{}: {}", left.host, left.why)).collect();
    (String::from_utf8(rendered.bytes).unwrap(), left_out)
}

#[test]
fn an_environment_has_one_name_for_each_field() {
    let (text, left_out) = rendered(
        Target::Env,
        json!({
            "10.0.0.1": {"port": 3306, "mysql": {"delay": "0", "o": {}}, "note": "it's; $(id) `id`\n", "tags": ["a"]},
            "db-2": {"up": true, "none": null, "esc": "\u{1b}[31m", "nul": "\0"},
            "a b": {"x": "1"},
        }),
    );
    assert_eq!(
        text,
        "FARM_DB_HOSTS='10.0.0.1 db-2'\n\
         FARM_DB_10_0_0_1_MYSQL_DELAY='0'\n\
         FARM_DB_10_0_0_1_NOTE='it'\\''s; $(id) `id`\n'\n\
         FARM_DB_10_0_0_1_PORT='3306'\n\
         FARM_DB_10_0_0_1_TAGS='[\"a\"]'\n\
         FARM_DB_DB_2_NONE='null'\n\
         FARM_DB_DB_2_UP='true'\n"
    );
    assert_eq!(
        left_out,
        [
            "a b: its name is no word, so that it cannot be in a list of hosts",
            "db-2: its field \"esc\" has control characters",
            "db-2: its field \"nul\" has control characters",
        ]
    );
}

#[test]
fn a_shell_reads_an_environment_as_it_is() {
    let hostile = ["$(touch x)", "`id`", "a'b\"c\\", "';id;'", "\n", "  a  ", "*", "~", "!!", "é\t", "x\n'\ny"];
    let fields: serde_json::Map<_, _> =
        hostile.iter().enumerate().map(|(at, v)| (format!("f{at}"), json!(v))).collect();
    let (text, left_out) = rendered(Target::Env, json!({ "h": fields }));
    assert_eq!(left_out, [""; 0]);
    for (at, value) in hostile.iter().enumerate() {
        let script = format!("{text}\nprintf %s \"$FARM_DB_H_F{at}\"");
        let output = std::process::Command::new("sh").args(["-uc", &script]).output().unwrap();
        assert_eq!(String::from_utf8_lossy(&output.stdout), *value);
        assert!(output.stderr.is_empty());
    }
}

#[test]
fn two_fields_with_one_name_are_refused() {
    for hosts in [
        json!({"a.b": {"x": "1"}, "a-b": {"x": "2"}}),
        json!({"a": {"x.y": "1", "x": {"y": "2"}}}),
        json!({"a": {"X": "1", "x": "2"}}),
        json!({"a": {"b_c": "1"}, "a_b": {"c": "2"}}),
    ] {
        let error = render(Target::Env, &export(hosts), &LineOptions::new("db").unwrap()).unwrap_err();
        assert!(matches!(error, RenderError::Collision { .. }), "{error}");
    }
}

#[test]
fn hosts_have_an_address_and_a_name_or_are_left_out() {
    let (text, left_out) = rendered(
        Target::Hosts,
        json!({
            "10.0.0.1": {"hostname": "db-01.example.com"},
            "db2": {"hostname": "db-02", "address": "2001:db8::2"},
            "10.0.0.3": {}, "10.0.0.4": {"hostname": "x\n6.6.6.6 bank.example"}, "10.0.0.5": {"hostname": "localhost"},
            "10.0.0.6": {"hostname": "a_b"}, "10.0.0.7": {"hostname": "1.2.3.4"}, "10.0.0.8": {"hostname": "a #"},
            "db9": {"hostname": "db9"}, "10.0.0.10": {"hostname": "x", "address": "10.0.0.1 y"},
            "10.0.0.11": {"hostname": "App.LOCALHOST"}, "10.0.0.12": {"hostname": ""},
        }),
    );
    assert_eq!(text, "10.0.0.1\tdb-01.example.com\n2001:db8::2\tdb-02\n");
    assert_eq!(left_out.len(), 10, "{left_out:?}");
    assert!(
        left_out.contains(&r#"10.0.0.4: its hostname "x\n6.6.6.6 bank.example" is not a name for a host"#.to_owned())
    );
}

fn servers() -> Value {
    json!({
        "10.0.0.1": {"port": 3306, "weight": "10"},
        "10.0.0.2": {"port": "3306", "enabled": "0"},
        "10.0.0.3": {"port": 3306, "weight": 0, "enabled": true},
        "db4": {"address": "2001:db8::4", "port": 80},
        "db5": {"address": "db5.example.com", "port": 65535},
        "no-port": {}, "port-0": {"port": 0}, "large": {"port": 65536}, "sign": {"port": "+80"}, "part": {"port": 80.5},
        "inject": {"port": "80 backup"}, "line": {"port": "80\n    server evil 6.6.6.6:80"}, "list": {"port": [80]},
        "weight": {"port": 80, "weight": "1 backup"}, "heavy": {"port": 80, "weight": 257},
        "maybe": {"port": 80, "enabled": "maybe"}, "where": {"port": 80, "address": "a; }"},
        "a b": {"port": 80, "address": "10.0.0.9"}, "x;y": {"port": 80, "address": "10.0.0.9"},
    })
}

#[test]
fn haproxy_gets_a_backend() {
    let (text, left_out) = rendered(Target::Haproxy, servers());
    assert_eq!(
        text,
        "backend db\n    \
             server 10.0.0.1 10.0.0.1:3306 weight 10 check\n    \
             server 10.0.0.2 10.0.0.2:3306 check disabled\n    \
             server 10.0.0.3 10.0.0.3:3306 weight 0 check\n    \
             server db4 [2001:db8::4]:80 check\n    \
             server db5 db5.example.com:65535 check\n"
    );
    assert_eq!(left_out.len(), 14, "{left_out:?}");
    assert!(left_out.contains(&r#"inject: its port "80 backup" is not a number from 1 to 65535"#.to_owned()));
}

#[test]
fn nginx_gets_an_upstream() {
    let (text, left_out) = rendered(Target::Nginx, servers());
    assert_eq!(
        text,
        "upstream db {\n    \
             server 10.0.0.1:3306 weight=10;\n    \
             server 10.0.0.2:3306 down;\n    \
             server 10.0.0.3:3306 down;\n    \
             server [2001:db8::4]:80;\n    \
             server db5.example.com:65535;\n\
         }\n"
    );
    assert_eq!(left_out.len(), 14);
    assert_eq!(rendered(Target::Nginx, json!({})).0, "upstream db {\n    server 127.0.0.1:1 down;\n}\n");
}

#[test]
fn fields_can_have_other_names_and_a_port_can_be_given() {
    let mut options = LineOptions::new("web.1").unwrap();
    (options.address, options.default_port) = ("net.ip".parse().unwrap(), Some(8080));
    let hosts = export(json!({"a": {"net": {"ip": "10.0.0.1"}}, "b": {"port": 81}}));
    let rendered = render(Target::Nginx, &hosts, &options).unwrap();
    assert_eq!(
        String::from_utf8(rendered.bytes).unwrap(),
        "upstream web.1 {\n    server 10.0.0.1:8080;\n    server b:81;\n}\n"
    );
    for name in ["", "a b", "a;", "a\n", "{", "é", &"x".repeat(65)] {
        assert!(LineOptions::new(name).is_err(), "{name}");
    }
}
