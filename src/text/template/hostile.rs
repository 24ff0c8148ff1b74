//! Templates that are made to take time and memory.

use super::tests::tokenizer;
use super::*;

fn rendered(source: &str) -> Result<String, TemplateError> {
    let tokenizer = tokenizer(&["<|im_start|>", "<|im_end|>"], false);
    Ok(ChatTemplate::compile(source, &tokenizer)?.render(&[Message::new(Role::User, "a")])?.text)
}

/// Renders on a thread of its own, so that a template without an end fails its test.
fn stopped(source: String) -> TemplateError {
    let (sender, receiver) = std::sync::mpsc::channel();
    let shown: String = source.chars().take(400).collect();
    std::thread::spawn(move || sender.send(rendered(&source)));
    // A second of a processor when optimised; tests are not, and share processors.
    let result = receiver.recv_timeout(std::time::Duration::from_secs(40));
    match result.unwrap_or_else(|_| panic!("no end: {shown}")) {
        Err(error) => error,
        Ok(text) => panic!("rendered {} bytes: {shown}", text.len()),
    }
}

/// Two equal values of 2^60 items each, `ns.a` and `ns.b`, and a dictionary `ns.d`.
fn shared(what: &str) -> String {
    format!(
        "{{% set ns = namespace(a=[1], b=[1], d={{}}) %}}{{% for i in range(60) %}}{{% set ns.a = [ns.a, ns.a] %}}\
         {{% set ns.b = [ns.b, ns.b] %}}{{% set ns.d = {{'x': ns.d, 'y': ns.d}} %}}{{% endfor %}}{what}"
    )
}

/// As [`shared`], without a namespace: nothing is paid for while the values are made.
fn plainly_shared(what: &str) -> String {
    let doubled = "{% set a = [a, a] %}{% set b = [b, b] %}{% set d = {'x': d, 'y': d} %}".repeat(60);
    let what = what.replace("ns.", "");
    format!("{{% set a = [1] %}}{{% set b = [1] %}}{{% set d = {{}} %}}{doubled}{what}")
}

/// What looks into values.
const USES: [&str; 79] = [
    "{{ ns.a }}",
    "{{ ns }}",
    "{{ ns.d }}",
    "{{ [ns.a] }}",
    "{{ ns.a ~ '' }}",
    "{{ '' ~ [ns.d] ~ '' }}",
    "{{ ns.a == ns.b }}",
    "{{ ns.a != ns.b }}",
    "{{ ns.a < ns.b }}",
    "{{ 1 < ns.a <= ns.b }}",
    "{{ ns.a in [ns.b] }}",
    "{{ ns.a not in [ns.b] }}",
    "{{ ns.a in 'text' }}",
    "{{ {ns.a: 1} }}",
    "{{ {'k': 1}[ns.a] }}",
    "{{ {'k': 1}.get(ns.a) }}",
    "{{ [ns.b].index(ns.a) }}",
    "{{ [ns.b].count(ns.a) }}",
    "{{ ns.a is eq(ns.b) }}",
    "{{ ns.a is equalto ns.b }}",
    "{{ ns.a is lt(ns.b) }}",
    "{{ ns.a is in([ns.b]) }}",
    "{{ ns.a is upper }}",
    "{{ ns.a is startingwith('x') }}",
    "{{ ns.a | string }}",
    "{{ ns.a | safe }}",
    "{{ ns.a | escape }}",
    "{{ ns.a | tojson }}",
    "{{ ns.d | tojson(indent=2) }}",
    "{{ ns.a | pprint }}",
    "{{ ns.a | upper }}",
    "{{ ns.a | trim }}",
    "{{ ns.a | title }}",
    "{{ ns.a | length ~ ns.a | join(',') }}",
    "{{ [1, 2] | join(ns.a) }}",
    "{{ 'x' | replace('x', ns.a) }}",
    "{{ ns.a | replace('x', 'y') }}",
    "{{ [ns.a, ns.b] | sort }}",
    "{{ [ns.a, ns.b] | unique | list | length }}",
    "{{ [ns.a, ns.b] | min }}",
    "{{ [ns.a, ns.b] | max }}",
    "{{ {'x': ns.a, 'y': ns.b} | dictsort(by='value') }}",
    "{{ [{'k': ns.a}, {'k': ns.b}] | groupby('k') | length }}",
    "{{ [{'k': ns.a}, {'k': ns.b}] | sort(attribute='k') | length }}",
    "{{ [{'k': ns.a}] | selectattr('k', 'equalto', ns.b) | list | length }}",
    "{{ [ns.a] | select('eq', ns.b) | list | length }}",
    "{{ [ns.a] | reject('in', [ns.b]) | list | length }}",
    "{{ [ns.a] | map('string') | list | length }}",
    "{{ [ns.a] | map('upper') | join }}",
    "{{ '%s' | format(ns.a) }}",
    "{{ '{}'.format(ns.a) }}",
    "{{ {'k': 1} | attr(ns.a) }}",
    "{{ ns.a | default('x') }}",
    "{{ '-'.join([ns.a]) }}",
    "{{ 'abc'.startswith(ns.a) }}",
    "{% for x in [1, 2] %}{{ loop.changed(ns.a if loop.first else ns.b) }}{% endfor %}",
    "{{ cycler(ns.a) }}",
    "{{ joiner(ns.a)() }}{{ joiner(ns.a) }}",
    "{% filter replace('x', ns.a) %}x{% endfilter %}",
    "{% macro m(x) %}{{ x }}{% endmacro %}{{ m(ns.a) }}",
    "{% for k, v in ns.d.items() %}{{ v }}{% endfor %}",
    "{{ ns.d.values() | list | string }}",
    "{{ ns.d | items | list }}",
    "{{ ns.a | reverse | list | string }}",
    "{{ ns.a[0:1] }}",
    "{{ (ns.a, ns.b) == (ns.b, ns.a) }}",
    "{{ ns.a * 3 }}",
    "{{ ns.a + ns.b == ns.b + ns.a }}",
    "{{ dict(x=ns.a) == dict(x=ns.b) }}",
    "{{ raise_exception(ns.a | string) }}",
    "{{ (ns.a if ns.b else 1) == (ns.b or 1) }}",
    // What is kept to be given later, under any name.
    "{{ joiner(ns.a) < joiner(ns.b) }}",
    "{{ [cycler(ns.a, 1)] == [cycler(ns.b, 1)] }}",
    "{% set j = joiner %}{{ [j(ns.a)] | map('string') | list }}",
    "{% set j = [cycler][0] %}{{ j(ns.a) ~ '' }}",
    "{{ {joiner(ns.a): 1} }}",
    "{{ joiner(ns.a) | tojson }}",
    "{{ [joiner(ns.a), joiner(ns.b)] | unique | list | length }}",
    "{{ 'x' | replace('x', cycler(ns.a)) }}",
];

/// Joiners and cyclers whose text would say 2^60 times what the first one holds.
#[test]
fn cyclers_and_joiners_hold_no_others() {
    for make in
        ["joiner([ns.a, ns.a])", "cycler(ns.a, ns.a)", "[joiner(ns.a), joiner(ns.a)]", "f([ns.a, ns.a])"]
    {
        for what in
            ["{{ ns.a }}", "{{ ns.a == ns.a }}", "{{ ns.a < ns.b }}", "{{ [ns.a] | map('string') | list }}"]
        {
            let source = format!(
                "{{% set f = joiner %}}{{% set ns = namespace(a=1, b=joiner(2)) %}}{{% for i in range(60) %}}\
                 {{% set ns.a = {make} %}}{{% endfor %}}{what}"
            );
            let error = stopped(source);
            assert!(matches!(error, TemplateError::Render { .. }), "{make} {what}: {error}");
        }
    }
    // What they are for.
    let commas =
        "{% set ns = namespace(c=joiner('; ')) %}{% for i in range(3) %}{{ ns.c() }}{{ i }}{% endfor %}";
    let said = |source: &str| rendered(&format!("{source}{{{{ messages[0].content }}}}")).unwrap();
    assert_eq!(said(commas), "0; 1; 2a");
    let rows = "{% set row = cycler('odd', 'even') %}{% for i in range(3) %}{{ row.next() }} {% endfor %}";
    assert_eq!(said(rows), "odd even odd a");
    let long = "{% set j = joiner('x' * 400000) %}{% set a = [j] * 9999 %}{% for i in range(99) %}{% set x = a == a[0:] %}{% endfor %}";
    assert!(matches!(stopped(long.to_owned()), TemplateError::OutOfFuel { .. }));
}

#[test]
fn values_that_share_themselves_are_paid_for() {
    for text in USES {
        let error = stopped(shared(text));
        let is_typed = matches!(error, TemplateError::OutOfFuel { .. } | TemplateError::Render { .. });
        assert!(is_typed, "{text}: {error}");
    }
}

#[test]
fn values_that_share_themselves_without_a_namespace_are_paid_for() {
    for text in USES.iter().filter(|text| !text.contains("{{ ns }}")) {
        let error = stopped(plainly_shared(text));
        let is_typed = matches!(error, TemplateError::OutOfFuel { .. } | TemplateError::Render { .. });
        assert!(is_typed, "{text}: {error}");
    }
}

#[test]
fn work_on_long_texts_is_paid_for() {
    let repeat = |what: &str| {
        format!("{{% for i in range(9999) %}}{{% for j in range(20) %}}{what}{{% endfor %}}{{% endfor %}}")
    };
    for (start, what) in [
        ("{% set a = 'a' * 400000 %}{% set b = 'a' * 400000 %}", "{% set x = a == b %}"),
        ("{% set a = 'a' * 400000 %}{% set b = 'a' * 400000 %}", "{% set x = a < b %}"),
        ("{% set a = 'a' * 400000 %}{% set b = ['a' * 400000] %}", "{% set x = a in b %}"),
        ("{% set a = 'é' * 400000 %}", "{% set x = a[399999] %}"),
        ("{% set a = 'é' * 400000 %}", "{% set x = a[-1] %}"),
        ("{% set a = 'é' * 400000 %}", "{% set x = a[399998:399999] %}"),
        ("{% set a = 'é' * 400000 %}", "{% set x = a | length %}"),
        ("{% set a = 'é' * 400000 %}", "{% set x = a | last %}"),
        ("{% set a = 'a' * 400000 %}", "{% set x = a is upper %}"),
        ("{% set a = 'a' * 400000 %}", "{% set x = {a: 1} %}"),
        ("{% set a = 'a' * 400000 %}{% set d = {'k': 1} %}", "{% set x = d[a] %}"),
        ("{% set a = 'a' * 400000 %}", "{% for c in a %}{% break %}{% endfor %}"),
        ("{% set a = 'a' * 400000 %}", "{% set x = a.count('b') + a.find('b') %}"),
        ("{% set a = range(50000) | list %}{% set b = range(50000) | list %}", "{% set x = a == b %}"),
        ("{% set a = range(50000) | list %}", "{% set x = a[49999:] %}"),
        ("{% set a = range(50000) | list %}", "{% set x = -1 in a %}"),
        ("{% set a = range(50000) | list %}", "{% set x = a | max %}"),
        ("{% set ns = namespace(a=range(1000)) %}", "{% set ns.a = ns.a[0:] %}"),
        ("{% set ns = namespace(a=range(1000) | list) %}", "{% set ns.a = ns.a | reverse %}"),
        ("{% set ns = namespace(a=range(1000) | list) %}", "{% set ns.a = ns.a + [] %}"),
        ("{% set ns = namespace(a=[1]) %}", "{% set ns.a = ns.a * 1 %}"),
        ("{% set ns = namespace(d={}) %}", "{% set ns.d = dict(ns.d, x=ns.d) %}"),
    ] {
        let error = stopped(format!("{start}{}", repeat(what)));
        let is_typed = matches!(error, TemplateError::OutOfFuel { .. } | TemplateError::Render { .. });
        assert!(is_typed, "{what}: {error}");
    }
}

#[test]
fn namespaces_hold_no_namespaces() {
    for source in [
        "{% set ns = namespace(a=1) %}{% set ns.a = ns %}{{ ns }}",
        "{% set ns = namespace(a=1) %}{% set ns.a = [ns] %}{{ ns == ns.a }}",
        "{% set ns = namespace(a=1) %}{% set ns.a = {'k': (1, ns)} %}{{ ns.a }}",
        "{% set ns = namespace(a=1) %}{% set ns.a, ns.b = 1, ns %}{{ ns }}",
        "{% set ns = namespace(a=1) %}{% set ns.a = [ns, ns][0:1] %}{{ ns }}",
        "{% set ns = namespace(a=1) %}{% set ns.a = ns if ns else 1 %}{{ ns | tojson }}",
        "{% set ns = namespace(a=1) %}{% set m = namespace(b=ns) %}{% set ns.a = m %}{{ m }}",
        "{% set ns = namespace(a=1) %}{% set ns.a = dict(x=ns) %}{{ ns }}",
        "{% set ns = namespace(a=1) %}{% set ns.c = cycler(ns) %}{{ ns.c }}",
        "{% set ns = namespace(a=1) %}{% set ns.c = [ns] | map(attribute='a') | list + [ns] %}{{ ns.c }}",
    ] {
        let error = stopped(source.to_owned());
        assert!(matches!(error, TemplateError::Render { .. }), "{source}: {error}");
    }
}

#[test]
fn a_rendered_text_has_a_limit() {
    let error = stopped("{% for i in range(33) %}{{ 'x' * 1000000 }}{% endfor %}".to_owned());
    assert!(matches!(error, TemplateError::OutputTooLarge { .. }), "{error}");
}

/// A template reaches its own values, and nothing of the program or the system.
#[test]
fn attributes_lead_nowhere() {
    for walk in [
        "''.__class__.__mro__[1].__subclasses__()",
        "messages.__class__",
        "self.__init__.__globals__",
        "cycler.__init__.__globals__.os.popen('id').read()",
        "namespace.__init__.__globals__",
        "lipsum.__globals__",
        "request.application",
        "config.items()",
        "messages | attr('__class__') | attr('__base__')",
        "get_flashed_messages.__globals__",
        "range.__self__",
        "messages[0].content.encode.__func__",
    ] {
        match rendered(&format!("{{{{ {walk} }}}}{{{{ messages[0].content }}}}")) {
            Ok(text) => assert_eq!(text, "a", "{walk}"),
            Err(error) => assert!(matches!(error, TemplateError::Render { .. }), "{walk}: {error}"),
        }
    }
    for source in ["{% include '/etc/passwd' %}", "{% import 'os' as os %}", "{% extends 'a' %}"] {
        assert!(rendered(source).is_err(), "{source}");
    }
}

#[test]
fn blocks_are_nested_only_so_deep() {
    for (open, close) in [
        ("{% if true %}", "{% endif %}"),
        ("{% for a in [1] %}", "{% endfor %}"),
        ("{% set a %}", "{% endset %}"),
        ("{% filter upper %}", "{% endfilter %}"),
        ("{% macro m() %}", "{% endmacro %}"),
    ] {
        let source = format!("{}x{}", open.repeat(20_000), close.repeat(20_000));
        let error = stopped(source);
        let is_typed = matches!(
            error,
            TemplateError::Syntax { .. } | TemplateError::Render { .. } | TemplateError::TooLarge { .. }
        );
        assert!(is_typed, "{open}: {error}");
    }
}
