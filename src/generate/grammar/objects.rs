//! Objects of a schema as people mean them: their declared keys and no others, and all of them.
//!
//! JSON Schema allows any other key unless `additionalProperties` says otherwise, and needs none that `required` does
//! not list, nor an object at all where `type` is not there. Held to that, a small model answers `{}`, or adds keys
//! without end. So where a schema with `properties` is silent, it is an object that has their keys only, and each of
//! them must be there; not where that would have no end, as in a tree whose every node had to have children.
//!
//! Parts of an object may stand in `allOf`, behind a `$ref` or in alternatives beside its `properties`. Then the keys of
//! all parts count as declared, and the object is closed where the parts come together; a definition that is used as
//! such a part stays as it is.

use std::collections::HashSet;

use serde_json::{Map, Value, json};

/// Steps of looking into references; a schema that needs more stays as it is written.
const MAX_STEPS: usize = 100_000;
/// References followed in a row.
const MAX_TARGETS: usize = 256;

/// Keywords with schemas that apply to the same value.
const LISTS: [&str; 3] = ["allOf", "anyOf", "oneOf"];
/// Keywords that say which keys an object has, beside `properties`.
const OPEN: [&str; 2] = ["additionalProperties", "patternProperties"];

/// Closes the objects of a checked schema, and asks for their keys.
pub(super) fn complete(root: &mut Value) {
    let mut objects = Objects { root: root.clone(), steps: 0, parts: HashSet::new() };
    objects.find_parts(&root.clone());
    objects.visit(root, "#", false);
}

/// Whether a value of this schema may have an object whose keys are free.
pub(super) fn has_free_keys(schema: &Value) -> bool {
    let Value::Object(map) = schema else { return schema == &Value::Bool(true) };
    let may_be = |name: &str| map.get("type").is_none_or(|types| names(types, name));
    let is_plain =
        !["$ref", "const", "enum", "allOf", "anyOf", "oneOf"].iter().any(|key| map.contains_key(*key));
    let is_open =
        map.contains_key("patternProperties") || map.get("additionalProperties") != Some(&Value::Bool(false));
    if is_plain && (may_be("object") && is_open || may_be("array") && !map.contains_key("items")) {
        return true;
    }
    children(map).any(|(_, schema)| has_free_keys(schema))
}

fn names(types: &Value, name: &str) -> bool {
    types == name || types.as_array().is_some_and(|types| types.iter().any(|own| own == name))
}

/// All schemas directly within one, with their paths from it.
fn children(map: &Map<String, Value>) -> impl Iterator<Item = (String, &Value)> {
    map.iter().flat_map(|(keyword, value)| -> Vec<(String, &Value)> {
        match (keyword.as_str(), value) {
            ("properties" | "patternProperties" | "$defs" | "definitions", Value::Object(schemas)) => {
                schemas.iter().map(|(name, schema)| (below(keyword, name), schema)).collect()
            }
            ("allOf" | "anyOf" | "oneOf" | "prefixItems" | "items", Value::Array(schemas)) => {
                schemas.iter().enumerate().map(|(i, schema)| (format!("/{keyword}/{i}"), schema)).collect()
            }
            ("items" | "additionalItems" | "additionalProperties", schema) => {
                vec![(format!("/{keyword}"), schema)]
            }
            _ => vec![],
        }
    })
}

fn below(keyword: &str, name: &str) -> String {
    format!("/{keyword}/{}", name.replace('~', "~0").replace('/', "~1"))
}

/// What is known of an object of several parts.
#[derive(Default)]
struct Declared {
    /// In the order of the parts.
    keys: Vec<String>,
    /// Those that every such object may have: not those of one alternative.
    common: usize,
    /// A part says what type it is of.
    is_typed: bool,
    /// A part says which keys are needed.
    is_required: bool,
    /// A part says which other keys there may be, or how many.
    is_open: bool,
}

struct Objects {
    /// The schema as it was.
    root: Value,
    steps: usize,
    /// Paths of definitions that are parts of objects.
    parts: HashSet<String>,
}

impl Objects {
    fn resolve(&self, target: &str) -> Option<&Value> {
        self.root.pointer(target.strip_prefix('#')?)
    }

    /// Notes the definitions that are used as parts of objects.
    fn find_parts(&mut self, schema: &Value) {
        let Value::Object(map) = schema else { return };
        let is_whole = map.contains_key("properties") || map.contains_key("allOf");
        let alternatives = if is_whole { &LISTS[..] } else { &LISTS[..1] };
        if is_whole && let Some(target) = map.get("$ref").and_then(Value::as_str) {
            self.note_part(target);
        }
        for part in alternatives.iter().filter_map(|list| map.get(*list)?.as_array()).flatten() {
            if let Some(target) = part.get("$ref").and_then(Value::as_str) {
                self.note_part(target);
            }
        }
        children(map).for_each(|(_, schema)| self.find_parts(schema));
    }

    /// What such a definition refers to in turn is a part too.
    fn note_part(&mut self, target: &str) {
        let mut target = target.to_owned();
        while self.parts.insert(target.clone()) {
            let next = self.resolve(&target).and_then(|schema| schema.get("$ref")?.as_str());
            let Some(next) = next.map(str::to_owned) else { return };
            target = next;
        }
    }

    /// Completes the objects of a schema; of a part only those within it.
    fn visit(&mut self, schema: &mut Value, path: &str, is_part: bool) {
        let Value::Object(map) = schema else { return };
        let is_part = is_part || self.parts.contains(path);
        let is_whole = map.contains_key("properties") || map.contains_key("allOf");
        if is_whole && !is_part {
            self.complete(map, path);
        }
        for (keyword, value) in map.iter_mut() {
            let place = format!("{path}/{keyword}");
            let is_part = keyword == "allOf" || is_whole && LISTS.contains(&keyword.as_str()) || {
                // Alternatives of a part are parts.
                is_part && LISTS.contains(&keyword.as_str())
            };
            match (keyword.as_str(), value) {
                ("properties" | "patternProperties" | "$defs" | "definitions", Value::Object(schemas)) => {
                    for (name, schema) in schemas {
                        self.visit(schema, &format!("{path}{}", below(keyword, name)), false);
                    }
                }
                ("allOf" | "anyOf" | "oneOf" | "prefixItems" | "items", Value::Array(schemas)) => {
                    for (index, schema) in schemas.iter_mut().enumerate() {
                        self.visit(schema, &format!("{place}/{index}"), is_part);
                    }
                }
                ("items" | "additionalItems" | "additionalProperties", schema) => {
                    self.visit(schema, &place, false);
                }
                _ => {}
            }
        }
    }

    fn complete(&mut self, map: &mut Map<String, Value>, path: &str) {
        let mut declared = Declared::default();
        self.declare(map, true, &mut declared, &mut vec![]);
        if declared.keys.is_empty() || self.steps > MAX_STEPS {
            return;
        }
        // Who names keys means an object.
        if !declared.is_typed {
            map.insert("type".to_owned(), json!("object"));
        }
        let is_counted = map.contains_key("maxProperties") || map.contains_key("minProperties");
        if !declared.is_required && !is_counted {
            let wanted = declared.keys[..declared.common].to_vec();
            let wanted = wanted.into_iter().filter(|key| !self.is_endless(map, key, path));
            map.insert("required".to_owned(), wanted.collect());
        }
        if declared.is_open {
            return;
        }
        let properties = map.entry("properties").or_insert_with(|| json!({}));
        if let Value::Object(properties) = properties {
            for key in declared.keys {
                properties.entry(key).or_insert(Value::Bool(true));
            }
        }
        map.insert("additionalProperties".to_owned(), Value::Bool(false));
    }

    /// Collects what the parts of an object say. `is_common` says that they hold for every such object.
    fn declare(
        &mut self,
        map: &Map<String, Value>,
        is_common: bool,
        declared: &mut Declared,
        targets: &mut Vec<String>,
    ) {
        self.steps += 1;
        declared.is_typed |= map.contains_key("type");
        declared.is_required |= map.contains_key("required");
        declared.is_open |= OPEN.iter().any(|keyword| map.contains_key(*keyword));
        let properties = map.get("properties").and_then(Value::as_object).into_iter().flat_map(Map::keys);
        let required = map.get("required").and_then(Value::as_array).into_iter().flatten();
        let required = required.filter_map(|key| key.as_str());
        for key in properties.map(String::as_str).chain(required) {
            match declared.keys.iter().position(|known| known == key) {
                Some(index) if is_common && index >= declared.common => {
                    let key = declared.keys.remove(index);
                    declared.keys.insert(declared.common, key);
                    declared.common += 1;
                }
                Some(_) => {}
                None if is_common => {
                    declared.keys.insert(declared.common, key.to_owned());
                    declared.common += 1;
                }
                None => declared.keys.push(key.to_owned()),
            }
        }
        let lists = LISTS.iter().filter_map(|list| Some((*list, map.get(*list)?.as_array()?)));
        for (list, parts) in lists {
            for part in parts.iter().filter_map(Value::as_object) {
                self.declare(part, is_common && list == "allOf", declared, targets);
            }
        }
        let Some(target) = map.get("$ref").and_then(Value::as_str) else { return };
        if targets.len() >= MAX_TARGETS {
            // The schema stays as it is written.
            self.steps = MAX_STEPS + 1;
        }
        if self.steps > MAX_STEPS || targets.iter().any(|known| known == target) {
            return;
        }
        if let Some(part) = self.resolve(target).and_then(Value::as_object).cloned() {
            targets.push(target.to_owned());
            self.declare(&part, is_common, declared, targets);
            targets.pop();
        }
    }

    /// Whether every value of a key would hold another such object in turn.
    fn is_endless(&mut self, map: &Map<String, Value>, key: &str, path: &str) -> bool {
        let mut parts = vec![map.clone()];
        while let Some(part) = parts.pop() {
            if let Some(value) = part.get("properties").and_then(|properties| properties.get(key)) {
                return self.leads_to(&value.clone(), path, &mut vec![]);
            }
            let list = part.get("allOf").and_then(Value::as_array).into_iter().flatten();
            parts.extend(list.filter_map(|part| part.as_object().cloned()));
            let target = part.get("$ref").and_then(Value::as_str).and_then(|target| self.resolve(target));
            parts.extend(target.and_then(Value::as_object).cloned());
            self.steps += 1;
            if self.steps > MAX_STEPS {
                return true;
            }
        }
        false
    }

    /// Whether every value of a schema holds one of the schema at `goal`, or one without end. When in doubt, yes.
    fn leads_to(&mut self, schema: &Value, goal: &str, targets: &mut Vec<String>) -> bool {
        self.steps += 1;
        let Value::Object(map) = schema else { return false };
        let is_choice = map.get("type").and_then(Value::as_array).is_some_and(|types| types.len() > 1);
        if self.steps > MAX_STEPS || targets.len() >= MAX_TARGETS {
            return true;
        }
        if is_choice || map.contains_key("enum") || map.contains_key("const") {
            return false;
        }
        if let Some(target) = map.get("$ref").and_then(Value::as_str) {
            if goal == target
                || goal.starts_with(&format!("{target}/"))
                || targets.iter().any(|t| t == target)
            {
                return true;
            }
            let next = self.resolve(target).cloned().unwrap_or_default();
            targets.push(target.to_owned());
            let leads = self.leads_to(&next, goal, targets);
            targets.pop();
            if leads {
                return true;
            }
        }
        for list in ["anyOf", "oneOf"] {
            let schemas = map.get(list).and_then(Value::as_array);
            if schemas
                .is_some_and(|schemas| schemas.iter().all(|schema| self.leads_to(schema, goal, targets)))
            {
                return true;
            }
        }
        let required: Option<Vec<&str>> = map
            .get("required")
            .and_then(Value::as_array)
            .map(|keys| keys.iter().filter_map(Value::as_str).collect());
        let has_items = map.get("minItems").and_then(Value::as_u64).is_some_and(|count| count > 0);
        let needed = children(map).filter(|(path, _)| {
            let mut names = path.split('/').skip(1);
            match names.next() {
                Some("allOf") => true,
                Some("items" | "prefixItems") => has_items,
                Some("properties") => {
                    let key = names.next().unwrap_or_default().replace("~1", "/").replace("~0", "~");
                    required.as_ref().is_none_or(|required| required.contains(&key.as_str()))
                }
                _ => false,
            }
        });
        needed.map(|(_, schema)| schema).any(|schema| self.leads_to(schema, goal, targets))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(text: &str) -> Value {
        let mut schema: Value = serde_json::from_str(text).unwrap();
        complete(&mut schema);
        schema
    }

    #[test]
    fn objects_have_their_declared_keys_and_all_of_them() {
        let schema =
            completed(r#"{"properties": {"a": {"properties": {"b": {}}}, "c": {"type": "string"}}}"#);
        assert_eq!(
            (&schema["required"], &schema["additionalProperties"]),
            (&json!(["a", "c"]), &json!(false))
        );
        assert_eq!(schema["type"], json!("object"));
        let inner = &schema["properties"]["a"];
        assert_eq!((&inner["required"], &inner["additionalProperties"]), (&json!(["b"]), &json!(false)));
        let schema = completed(r#"{"items": {"properties": {"a": {}, "b": {}}, "required": ["b"]}}"#);
        assert_eq!(
            (&schema["items"]["required"], &schema["items"]["additionalProperties"]),
            (&json!(["b"]), &json!(false))
        );
    }

    #[test]
    fn keys_that_are_only_required_are_declared() {
        let schema = completed(r#"{"properties": {"a": {}}, "required": ["b"]}"#);
        assert_eq!(schema["properties"], json!({"a": {}, "b": true}));
        let typed = completed(r#"{"properties": {"a": {}}, "type": ["null", "object"]}"#);
        assert_eq!(typed["type"], json!(["null", "object"]));
    }

    #[test]
    fn what_a_schema_names_itself_stays() {
        for text in [
            r#"{"type": "object"}"#,
            r#"{"type": "object", "properties": {"a": {}}, "required": [], "additionalProperties": true}"#,
            r#"{"type": ["object", "null"], "properties": {"a": {}}, "required": ["a"], "patternProperties": {"^b": {}}}"#,
            r##"{"$ref": "#/$defs/a", "$defs": {"a": {"type": "integer"}}}"##,
        ] {
            assert_eq!(completed(text), serde_json::from_str::<Value>(text).unwrap());
        }
        let counted = completed(r#"{"properties": {"a": {}, "b": {}}, "maxProperties": 1}"#);
        assert_eq!((counted.get("required"), &counted["additionalProperties"]), (None, &json!(false)));
    }

    #[test]
    fn trees_end() {
        let tree = completed(
            r##"{"properties": {"value": {}, "left": {"$ref": "#"}, "kids": {"items": {"$ref": "#"}},
                 "many": {"items": {"$ref": "#"}, "minItems": 1}, "maybe": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}}}"##,
        );
        assert_eq!(tree["required"], json!(["value", "kids", "maybe"]));
        let round = completed(
            r##"{"$ref": "#/$defs/a", "$defs": {"a": {"properties": {"b": {"$ref": "#/$defs/b"}}},
                 "b": {"properties": {"c": {}, "a": {"$ref": "#/$defs/a"}}}}}"##,
        );
        assert_eq!(round["$defs"]["a"]["required"], json!([]));
        assert_eq!(round["$defs"]["b"]["required"], json!(["c"]));
    }

    #[test]
    fn parts_of_an_object_are_closed_together() {
        let schema = completed(
            r##"{"allOf": [{"$ref": "#/$defs/base"}, {"properties": {"b": {}}}], "properties": {"c": {}},
                 "anyOf": [{"properties": {"d": {}}}, {"properties": {"e": {}}}],
                 "$defs": {"base": {"properties": {"a": {"properties": {"x": {}}}}}, "alone": {"properties": {"y": {}}}}}"##,
        );
        assert_eq!(schema["required"], json!(["c", "a", "b"]));
        let keys: Vec<&str> = schema["properties"].as_object().unwrap().keys().map(String::as_str).collect();
        assert_eq!((keys, &schema["additionalProperties"]), (vec!["c", "a", "b", "d", "e"], &json!(false)));
        let (base, alone) = (&schema["$defs"]["base"], &schema["$defs"]["alone"]);
        assert_eq!(base.get("additionalProperties"), None, "it is a part");
        assert_eq!(base["properties"]["a"]["additionalProperties"], json!(false));
        assert_eq!(alone["additionalProperties"], json!(false));
        assert_eq!(schema["anyOf"][0].get("additionalProperties"), None);
        let either = completed(r#"{"oneOf": [{"properties": {"a": {}}}, {"properties": {"b": {}}}]}"#);
        assert_eq!(either["oneOf"][1]["additionalProperties"], json!(false));
        assert_eq!(either.get("additionalProperties"), None);
    }

    #[test]
    fn free_keys_are_seen() {
        for (text, free) in [
            ("true", true),
            ("{}", true),
            (r#"{"type": "object"}"#, true),
            (r#"{"type": "object", "patternProperties": {"^a": {}}, "additionalProperties": false}"#, true),
            (r#"{"type": "array"}"#, true),
            (r#"{"type": "string"}"#, false),
            (
                r#"{"type": "object", "properties": {"a": {"type": "null"}}, "additionalProperties": false}"#,
                false,
            ),
            (r#"{"type": "object", "properties": {"a": {}}, "additionalProperties": false}"#, true),
            (r#"{"type": "array", "items": {"enum": [1]}}"#, false),
        ] {
            assert_eq!(has_free_keys(&serde_json::from_str(text).unwrap()), free, "{text}");
        }
    }
}
