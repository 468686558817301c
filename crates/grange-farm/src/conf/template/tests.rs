use serde_json::json;

use super::*;
use crate::properties::Properties;

fn export() -> Export {
    let hosts = json!({
        "10.0.0.1": {"port": 80, "weight": "10", "note": "it's \"$x\"\n", "mysql": {"delay": 0}, "tags": ["a", "b c"], "up": true},
        "10.0.0.2": {"port": 8080, "note": "plain", "mysql": {}, "name": "mine", "none": null},
    });
    let hosts = hosts.as_object().unwrap().iter();
    Export {
        hosts: hosts.map(|(name, host)| (name.clone(), Properties::try_from(host.clone()).unwrap())).collect(),
        farm: Properties::try_from(json!({"size": 2})).unwrap(),
    }
}

fn rendered(source: &str) -> Result<String, String> {
    let template = Template::new("farm.j2", source.to_owned(), false).map_err(|error| error.to_string())?;
    let rendered = template.render(&export()).map_err(|error| error.to_string())?;
    Ok(String::from_utf8(rendered.bytes).unwrap())
}

#[test]
fn hosts_are_what_an_administrator_expects() {
    for (source, text) in [
        (
            "{% for host in hosts %}\nserver {{ host.name }}:{{ host.port }};\n{% endfor %}\nend\n",
            "server 10.0.0.1:80;\nserver 10.0.0.2:8080;\nend\n",
        ),
        ("{{ hosts | length }} of {{ farm.size }}", "2 of 2"),
        ("{{ hosts[1].name }} {{ hosts[1].properties.name }} {{ hosts[0]['port'] + 1 }}", "10.0.0.2 mine 81"),
        ("{{ hosts[0].mysql.delay }}{{ hosts[0].up }}{{ hosts[1].none is defined }}", "0truefalse"),
        ("{{ hosts | map(attribute='port') | sum }}", "8160"),
        ("{% for host in hosts if host.weight is defined %}{{ host.name }}{% endfor %}", "10.0.0.1"),
        ("{% if hosts[1].weight %}a{% else %}b{% endif %}", "b"),
        ("{% for host in hosts %}{{ host.weight | default(1) }},{% endfor %}", "10,1,"),
        ("{% for tag in hosts[0].tags if tag is token %}{{ tag }}{% endfor %}", "a"),
        ("{% for key, value in hosts[0].mysql | items %}{{ key }}={{ value }}{% endfor %}", "delay=0"),
        ("{# nothing #}\n", ""),
        ("{% macro s(h) %}server {{ h.name }};{% endmacro %}{{ s(hosts[0]) }}", "server 10.0.0.1;"),
        ("{{ hosts | map(attribute='name') | join(' ' | raw) }}", "10.0.0.1 10.0.0.2"),
        (
            "{% set ns = namespace(n=0) %}{% for h in hosts %}{% set ns.n = ns.n + h.port %}{% endfor %}{{ ns.n }}",
            "8160",
        ),
        ("{% for h in hosts | sort(attribute='port', reverse=true) %}{{ h.port }} {% endfor %}", "8080 80 "),
    ] {
        assert_eq!(rendered(source).as_deref(), Ok(text), "{source}");
    }
}

#[test]
fn values_are_quoted_for_what_they_are_put_into() {
    for (source, text) in [
        ("{{ hosts[0].note | json }}", r#""it\u0027s \"$x\"\n""#),
        ("{{ '</script>' | json }}", r#""\u003c/script\u003e""#),
        ("{{ hosts[0].note | php }}", r#""it's \"\$x\"\n""#),
        ("{{ hosts[0].note | shell }}", "'it'\\''s \"$x\"\n'"),
        ("{{ hosts[0].note | raw }}", "it's \"$x\"\n"),
        ("{{ hosts[0].note | e }}", "it&#x27;s &quot;$x&quot;\n"),
        ("{{ hosts[0].tags | json }}", r#"["a","b c"]"#),
        ("{{ hosts[0].mysql | json }} {{ hosts[0].port | json }}", r#"{"delay":0} 80"#),
        ("{{ hosts[0].port | token }}", "80"),
        ("{{ hosts[0].up | php }}", "true"),
    ] {
        assert_eq!(rendered(source).as_deref(), Ok(text), "{source}");
    }
}

#[test]
fn what_is_wrong_is_told_with_line_and_host() {
    for (source, message) in [
        ("a\n{% for %}", "template farm.j2:2: "),
        ("a\n{{ hosts | nothing }}", "template farm.j2:2: filter nothing is unknown"),
        (
            "\n{% for host in hosts %}\n{{ host.weight }}\n{% endfor %}",
            "template farm.j2:3: there is no such field; write '| default(…)' for one that may be missing (field weight of host \"10.0.0.2\")",
        ),
        (
            "{% for host in hosts %}{{ host.mysql.delay }}{% endfor %}",
            "template farm.j2:1: there is no such field; write '| default(…)' for one that may be missing (field mysql.delay of host \"10.0.0.2\")",
        ),
        (
            "{{ farm.colour }}",
            "template farm.j2:1: there is no such field; write '| default(…)' for one that may be missing (field colour of the farm)",
        ),
        ("{{ hosts[0].note }}", "template farm.j2:1: \"it's \\\"$x\\\"\\n\" is more than a word; quote it"),
        ("{{ hosts[0].weight ~ ';' }}", "template farm.j2:1: \"10;\" is more than a word"),
        ("{{ hosts[0].note | token }}", "template farm.j2:1: \"it's \\\"$x\\\"\\n\" has more than letters"),
        ("{{ hosts[0].weight2 | json }}", "template farm.j2:1: there is no such field"),
        (
            "{{ hosts | map(attribute='note') | join(' ' | raw) }}",
            "template farm.j2:1: \"it's \\\"$x\\\"\\n\" is more than a word",
        ),
        (
            "{{ hosts | map(attribute='note') | join(' ') }}",
            "template farm.j2:1: \"it's \\\"$x\\\"\\n plain\" is more than a word",
        ),
        ("{% macro s(h) %}{{ h.note }}{% endmacro %}{{ s(hosts[0]) }}", "template farm.j2:1: \"it's"),
        ("{% set s %}{{ hosts[0].note }}{% endset %}{{ s }}", "template farm.j2:1: \"it's"),
        ("{{ '%s' | format(hosts[0].note) }}", "template farm.j2:1: \"it's"),
        ("{{ 'x' | raw ~ hosts[0].note }}", "template farm.j2:1: \"it's"),
        ("{{ hosts[0].note | upper }}", "template farm.j2:1: \"IT'S"),
        ("{{ hosts[0].tags }}", "template farm.j2:1: an object, a list or null is no text; write '| json'"),
        ("{{ hosts[0] }}", "template farm.j2:1: an object, a list or null is no text"),
        ("{{ host.name }}", "template farm.j2:1: there is no such field"),
        ("{% include '/etc/passwd' %}", "template farm.j2:1: "),
    ] {
        let error = rendered(source).expect_err(source);
        assert!(error.starts_with(message), "{source}: {error}");
    }
}

#[test]
fn a_template_ends() {
    let loops = "{% for a in range(9999) %}{% for b in range(9999) %}{% set x = a * b %}{% endfor %}{% endfor %}";
    assert_eq!(rendered(loops).unwrap_err(), "template farm.j2:1: it takes too long; does it loop?");
    let recursive = "{% macro m(x) %}{{ m(x) }}{% endmacro %}{{ m(1) }}";
    assert!(rendered(recursive).unwrap_err().contains("recursion"));
    let long = format!("{{% for a in range(9999) %}}{}{{% endfor %}}", "x".repeat(10_000));
    assert_eq!(rendered(&long).unwrap_err(), "template farm.j2 gives more than 64 MiB");
}

#[test]
fn html_is_escaped() {
    let source = "<b>{{ hosts[0].note }}</b>{{ hosts[0].note | raw }}".to_owned();
    let temp = tempfile::tempdir().unwrap();
    let path = temp.path().join("farm.j2");
    std::fs::write(&path, source).unwrap();
    let template = Template::read(&path, Path::new("farm.html")).unwrap();
    let text = String::from_utf8(template.render(&export()).unwrap().bytes).unwrap();
    assert_eq!(text, "<b>it&#x27;s &quot;$x&quot;\n</b>it's \"$x\"\n");
    let error = Template::read(&temp.path().join("none"), Path::new("x")).unwrap_err();
    assert!(matches!(error, TemplateError::Read { .. }), "{error}");
}

#[test]
fn the_templates_of_the_manual_work() {
    let manual = include_str!("../../../../../docs/farm.md");
    let templates: Vec<_> =
        manual.split("```jinja\n").skip(1).map(|rest| rest.split("```").next().unwrap().to_owned()).collect();
    let hosts = json!({
        "10.0.0.1": {"port": 3306, "enabled": "1", "site": "paris"},
        "10.0.0.2": {"port": 3307, "enabled": "0", "site": "oslo", "backup": true},
        "db-3": {"port": 3306, "address": "10.0.0.3", "weight": 5, "site": "paris"},
    });
    let hosts = hosts.as_object().unwrap().iter();
    let export = Export {
        hosts: hosts.map(|(name, host)| (name.clone(), Properties::try_from(host.clone()).unwrap())).collect(),
        farm: Properties::try_from(json!({"size": 3})).unwrap(),
    };
    let rendered = templates.iter().map(|source| {
        let template = Template::new("manual", source.clone(), false).unwrap();
        String::from_utf8(template.render(&export).unwrap().bytes).unwrap()
    });
    assert_eq!(
        rendered.collect::<Vec<_>>(),
        [
            "# 3 hosts at most\n\
             backend db\n    balance leastconn\n    option mysql-check user haproxy\n    \
                 server 10.0.0.1 10.0.0.1:3306 check weight 10\n    \
                 server db-3 10.0.0.3:3306 check weight 5\n",
            "upstream db_oslo {\n    server 10.0.0.2:3307 backup;\n}\n\
             upstream db_paris {\n    server 10.0.0.1:3306;\n    server db-3:3306;\n}\n",
        ]
    );
}
