//! Writes guards into a template: filters of [`super::cost`] around the operands of what looks into values.
//!
//! minijinja pays fuel for instructions and for what it makes, not for looking into values: a comparison of two
//! lists costs as much as one of two numbers, and a list that holds another twice may have 2^60 items. It also joins,
//! slices and repeats lists lazily, so that the work is done later and free of charge. So every operand that an
//! operator, a filter or a test looks into is given to a filter that pays for all of it, and lists that would be
//! lazy are made at once.
//!
//! A guard is inserted into the template's text, at the places of the syntax tree, so that lines stay where they are.
//! What is a number, a short text or made of texts by an operator needs none.

use minijinja::machinery::ast::{
    BinOp, BinOpKind, Call, CallArg, Expr, Filter, Macro, Stmt, Test, UnaryOpKind,
};
use minijinja::machinery::parse;
use minijinja::syntax::SyntaxConfig;
use minijinja::value::ValueKind;
use minijinja::{Error, Value};

use super::cost::{BOUNDED, EAGER, KEPT, SHALLOW, SMALL, SORTED, WEIGHED, WRITTEN};

/// Bytes of a constant text that is compared without being weighed.
const SHORT_BYTES: usize = 256;

/// Filters that look at no more of a value than they are charged for.
const FREE: [&str; 9] = ["abs", "bool", "d", "default", "float", "int", "round", "tojson", WEIGHED];
/// Filters that take a value's items and look into none.
const LISTS: [&str; 11] =
    ["attr", "batch", "count", "first", "items", "last", "length", "list", "reverse", "slice", "zip"];
/// Those of them whose result is lazy.
const LAZY: [&str; 5] = ["batch", "items", "reverse", "slice", "zip"];
/// Filters that compare items with each other.
const SORTS: [&str; 6] = ["dictsort", "groupby", "max", "min", "sort", "unique"];
/// Filters that do something to every item.
const EACH: [&str; 6] = ["map", "reject", "rejectattr", "select", "selectattr", "sum"];
/// Tests that look into no value; with a short constant, those that compare do not either.
const SHALLOW_TESTS: [&str; 20] = [
    "boolean",
    "callable",
    "defined",
    "divisibleby",
    "escaped",
    "even",
    "false",
    "filter",
    "float",
    "int",
    "integer",
    "iterable",
    "mapping",
    "none",
    "number",
    "odd",
    "safe",
    "sequence",
    "string",
    "test",
];
const TESTS_BY_NAME: [&str; 2] = ["true", "undefined"];
const COMPARISONS: [&str; 17] = [
    "!=",
    "<",
    "<=",
    "==",
    ">",
    ">=",
    "eq",
    "equalto",
    "ge",
    "greaterthan",
    "gt",
    "le",
    "lessthan",
    "lt",
    "ne",
    "sameas",
    "in",
];

/// The template with guards.
///
/// # Errors
/// If it cannot be parsed.
pub(super) fn guard(source: &str, file: &str, syntax: SyntaxConfig) -> Result<String, Error> {
    let mut guards = Guards { source, inserts: vec![] };
    guards.statement(&parse(source, file, syntax)?);
    let mut inserts = guards.inserts;
    // Where an expression ends none starts; of those that end together the inner ones were added first.
    inserts.sort_by_key(|(offset, _)| *offset);
    let (mut out, mut done) = (String::with_capacity(source.len() + 16 * inserts.len()), 0);
    for (offset, text) in inserts {
        out.push_str(source.get(done..offset).unwrap_or_default());
        out.push_str(&text);
        done = offset;
    }
    out.push_str(source.get(done..).unwrap_or_default());
    Ok(out)
}

/// Where what is inserted into a template.
struct Guards<'s> {
    source: &'s str,
    inserts: Vec<(usize, String)>,
}

impl Guards<'_> {
    /// Gives the value of an expression to a filter; its own guards must have been added.
    fn wrap(&mut self, expression: &Expr<'_>, filter: &str) {
        self.insert(expression, "(", format!(")|{filter}"));
    }

    /// As [`Guards::wrap`], where something that binds closer than a filter may follow.
    fn wrap_closed(&mut self, expression: &Expr<'_>, filter: &str) {
        self.insert(expression, "((", format!(")|{filter})"));
    }

    fn insert(&mut self, expression: &Expr<'_>, open: &str, close: String) {
        if let Some(start) = self.start(expression) {
            self.inserts.push((start, open.to_owned()));
            self.inserts.push((expression.span().end_offset as usize, close));
        }
    }

    /// Pays for all of the value of an expression.
    fn weigh(&mut self, expression: &Expr<'_>) {
        if !is_light(expression) {
            self.wrap(expression, WEIGHED);
        }
    }

    /// Where an expression starts, or one of the parentheses around its first part: the spans of minijinja start with
    /// the last operator of a chain. `None` for what a block gives to its filter, and for lists without parentheses.
    fn start(&self, expression: &Expr<'_>) -> Option<usize> {
        let own = expression.span().start_offset as usize;
        match expression {
            Expr::Var(_) | Expr::Const(_) | Expr::List(_) | Expr::Map(_) => Some(own),
            Expr::Tuple(_) => self.source.get(own..)?.starts_with('(').then_some(own),
            Expr::UnaryOp(unary) => match unary.op {
                UnaryOpKind::Not if !self.source.get(own..)?.starts_with("not") => self.start(&unary.expr),
                _ => Some(own),
            },
            Expr::Slice(slice) => self.start(&slice.expr),
            Expr::BinOp(binary) => self.start(&binary.left),
            Expr::Compare(compare) => self.start(&compare.expr),
            Expr::IfExpr(choice) => self.start(&choice.true_expr),
            Expr::Filter(filter) => self.start(filter.expr.as_ref()?),
            Expr::Test(test) => self.start(&test.expr),
            Expr::GetAttr(attribute) => self.start(&attribute.expr),
            Expr::GetItem(item) => self.start(&item.expr),
            Expr::Call(call) => self.start(&call.expr),
        }
    }

    fn statements(&mut self, statements: &[Stmt<'_>]) {
        statements.iter().for_each(|statement| self.statement(statement));
    }

    fn statement(&mut self, statement: &Stmt<'_>) {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitExpr(emit) => self.expression(&emit.expr),
            Stmt::EmitRaw(_) | Stmt::Continue(_) | Stmt::Break(_) => {}
            Stmt::ForLoop(each) => {
                self.expressions(std::iter::once(&each.iter).chain(&each.filter_expr));
                if !matches!(each.iter, Expr::List(_) | Expr::Tuple(_) | Expr::Const(_)) {
                    self.wrap(&each.iter, SHALLOW);
                }
                self.statements(&each.body);
                self.statements(&each.else_body);
            }
            Stmt::IfCond(condition) => {
                self.expression(&condition.expr);
                self.statements(&condition.true_body);
                self.statements(&condition.false_body);
            }
            Stmt::WithBlock(with) => {
                self.expressions(with.assignments.iter().map(|(_, value)| value));
                self.statements(&with.body);
            }
            Stmt::Set(set) => {
                self.expression(&set.expr);
                if has_attribute(&set.target) {
                    self.keep(&set.expr);
                }
            }
            Stmt::SetBlock(set) => {
                self.expressions(&set.filter);
                self.statements(&set.body);
            }
            Stmt::AutoEscape(block) => {
                self.expression(&block.enabled);
                self.statements(&block.body);
            }
            Stmt::FilterBlock(block) => {
                self.expression(&block.filter);
                self.statements(&block.body);
            }
            Stmt::Macro(declared) => self.declaration(declared),
            Stmt::CallBlock(block) => {
                self.call(&block.call);
                self.declaration(&block.macro_decl);
            }
            Stmt::Do(block) => self.call(&block.call),
        }
    }

    /// Guards what is put into a namespace.
    fn keep(&mut self, value: &Expr<'_>) {
        match value {
            Expr::Tuple(tuple) => tuple.items.iter().for_each(|item| self.keep(item)),
            value if is_light(value) => {}
            value => self.wrap(value, KEPT),
        }
    }

    fn declaration(&mut self, declared: &Macro<'_>) {
        self.expressions(&declared.defaults);
        self.statements(&declared.body);
    }

    fn call(&mut self, call: &Call<'_>) {
        self.expression(&call.expr);
        // Methods of texts, lists and dictionaries pay themselves.
        let filter = match &call.expr {
            Expr::GetAttr(attribute) if attribute.name == "changed" => Some(WEIGHED),
            Expr::Var(function) if function.id == "loop" => Some(SHALLOW),
            _ => None,
        };
        for argument in &call.args {
            let value = argument_value(argument);
            self.expression(value);
            let is_spread = matches!(argument, CallArg::PosSplat(_) | CallArg::KwargSplat(_));
            match filter.or(is_spread.then_some(SHALLOW)) {
                Some(filter) if !is_light(value) => self.wrap(value, filter),
                _ => {}
            }
        }
    }

    fn expressions<'a>(&mut self, expressions: impl IntoIterator<Item = &'a Expr<'a>>) {
        expressions.into_iter().for_each(|expression| self.expression(expression));
    }

    fn expression(&mut self, expression: &Expr<'_>) {
        match expression {
            Expr::Var(_) | Expr::Const(_) => {}
            Expr::Slice(slice) => {
                self.expression(&slice.expr);
                self.expressions([&slice.start, &slice.stop, &slice.step].into_iter().flatten());
                self.wrap_closed(&slice.expr, SHALLOW);
                self.wrap_closed(expression, EAGER);
            }
            Expr::UnaryOp(unary) => self.expression(&unary.expr),
            Expr::BinOp(binary) => self.binary(binary, expression),
            Expr::Compare(compare) => {
                self.expression(&compare.expr);
                self.weigh(&compare.expr);
                for operand in &compare.ops {
                    self.expression(&operand.expr);
                    self.weigh(&operand.expr);
                }
            }
            Expr::IfExpr(choice) => {
                self.expressions(
                    [&choice.test_expr, &choice.true_expr].into_iter().chain(&choice.false_expr),
                );
            }
            Expr::Filter(filter) => self.filter(filter, expression),
            Expr::Test(test) => self.test(test),
            Expr::GetAttr(attribute) => self.expression(&attribute.expr),
            Expr::GetItem(item) => {
                self.expressions([&item.expr, &item.subscript_expr]);
                self.weigh(&item.subscript_expr);
                if !is_text(&item.subscript_expr) {
                    self.wrap_closed(&item.expr, SHALLOW);
                }
            }
            Expr::Call(call) => self.call(call),
            Expr::List(list) => self.expressions(&list.items),
            Expr::Tuple(tuple) => self.expressions(&tuple.items),
            Expr::Map(map) => {
                self.expressions(map.keys.iter().chain(&map.values));
                map.keys.iter().for_each(|key| self.weigh(key));
            }
        }
    }

    fn test(&mut self, test: &Test<'_>) {
        self.expression(&test.expr);
        test.args.iter().for_each(|argument| self.expression(argument_value(argument)));
        let is_shallow = SHALLOW_TESTS.contains(&test.name) || TESTS_BY_NAME.contains(&test.name);
        let compares = COMPARISONS.contains(&test.name) && test.name != "in";
        if is_shallow || (compares && are_light(&test.args)) {
            return;
        }
        self.weigh(&test.expr);
        test.args.iter().for_each(|argument| self.weigh(argument_value(argument)));
    }

    fn binary(&mut self, binary: &BinOp<'_>, whole: &Expr<'_>) {
        self.expressions([&binary.left, &binary.right]);
        self.operands(binary.op, &binary.left, &binary.right);
        let makes_list = match binary.op {
            BinOpKind::Add => Some(BOUNDED),
            BinOpKind::Mul => Some(EAGER),
            _ => None,
        };
        if let Some(filter) = makes_list
            && !is_light(whole)
            && !is_text(whole)
        {
            self.wrap(whole, filter);
        }
    }

    fn operands(&mut self, operator: BinOpKind, left: &Expr<'_>, right: &Expr<'_>) {
        let looks = match operator {
            BinOpKind::In => !is_light(left),
            BinOpKind::Eq
            | BinOpKind::Ne
            | BinOpKind::Lt
            | BinOpKind::Lte
            | BinOpKind::Gt
            | BinOpKind::Gte => !is_light(left) && !is_light(right),
            _ => false,
        };
        for operand in [left, right] {
            if looks {
                self.weigh(operand);
            } else if matches!(operator, BinOpKind::Concat) && !is_light(operand) && !is_text(operand) {
                self.wrap(operand, WRITTEN);
            }
        }
    }

    fn filter(&mut self, filter: &Filter<'_>, whole: &Expr<'_>) {
        let arguments = || filter.args.iter().map(argument_value);
        self.expressions(filter.expr.iter().chain(arguments()));
        let (name, are_light) = (filter.name, are_light(&filter.args));
        let looks_at_each = EACH.contains(&name) || SORTS.contains(&name);
        let of_arguments = if looks_at_each { SMALL } else { WEIGHED };
        if !FREE.contains(&name) {
            arguments().filter(|value| !is_light(value)).for_each(|value| self.wrap(value, of_arguments));
        }
        let of_value = match name {
            name if FREE.contains(&name) => None,
            name if LISTS.contains(&name) || (EACH.contains(&name) && are_light && is_plain(filter)) => {
                Some(SHALLOW)
            }
            name if SORTS.contains(&name) => Some(SORTED),
            _ => Some(WEIGHED),
        };
        if let (Some(of_value), Some(value)) = (of_value, &filter.expr)
            && (!is_light(value) || matches!(value, Expr::Const(_)))
        {
            self.wrap(value, of_value);
        }
        if LAZY.contains(&name) {
            self.wrap(whole, EAGER);
        }
    }
}

/// Whether a filter over items only takes their attributes, or tests what needs no look into values.
fn is_plain(filter: &Filter<'_>) -> bool {
    let test = match (filter.name, filter.args.as_slice()) {
        ("map" | "sum", arguments) => {
            return arguments.iter().all(|argument| matches!(argument, CallArg::Kwarg(..)));
        }
        ("select" | "reject", [test, ..]) | ("selectattr" | "rejectattr", [_, test, ..]) => test,
        _ => return true,
    };
    match argument_value(test) {
        Expr::Const(name) => name.value.as_str().is_some_and(|name| {
            SHALLOW_TESTS.contains(&name) || TESTS_BY_NAME.contains(&name) || COMPARISONS.contains(&name)
        }),
        _ => false,
    }
}

fn argument_value<'a, 'b>(argument: &'b CallArg<'a>) -> &'b Expr<'a> {
    match argument {
        CallArg::Pos(value)
        | CallArg::Kwarg(_, value)
        | CallArg::PosSplat(value)
        | CallArg::KwargSplat(value) => value,
    }
}

fn are_light(arguments: &[CallArg<'_>]) -> bool {
    arguments.iter().all(|argument| is_light(argument_value(argument)))
}

/// Whether the value of an expression is surely small: a number, a short constant, true or false.
fn is_light(expression: &Expr<'_>) -> bool {
    match expression {
        Expr::Const(constant) => is_short(&constant.value),
        Expr::Test(_) | Expr::Compare(_) => true,
        Expr::UnaryOp(unary) => !matches!(unary.op, UnaryOpKind::Neg) || is_light(&unary.expr),
        Expr::BinOp(binary) => match binary.op {
            BinOpKind::Eq
            | BinOpKind::Ne
            | BinOpKind::Lt
            | BinOpKind::Lte
            | BinOpKind::Gt
            | BinOpKind::Gte
            | BinOpKind::In
            | BinOpKind::Sub
            | BinOpKind::Div
            | BinOpKind::FloorDiv
            | BinOpKind::Rem
            | BinOpKind::Pow => true,
            BinOpKind::Add => is_number(&binary.left) || is_number(&binary.right),
            BinOpKind::Mul | BinOpKind::Concat | BinOpKind::ScAnd | BinOpKind::ScOr => false,
        },
        _ => false,
    }
}

fn is_number(expression: &Expr<'_>) -> bool {
    matches!(expression, Expr::Const(constant) if constant.value.kind() == ValueKind::Number)
}

fn is_short(value: &Value) -> bool {
    value.as_str().map_or(value.len().is_none(), |text| text.len() <= SHORT_BYTES)
}

/// Whether the value of an expression is surely a text.
fn is_text(expression: &Expr<'_>) -> bool {
    match expression {
        Expr::Const(constant) => constant.value.as_str().is_some(),
        Expr::BinOp(binary) => match binary.op {
            BinOpKind::Concat => true,
            BinOpKind::Add => is_text(&binary.left) || is_text(&binary.right),
            _ => false,
        },
        _ => false,
    }
}

/// Whether a target of `set` is, or has in it, an attribute of a namespace.
fn has_attribute(target: &Expr<'_>) -> bool {
    match target {
        Expr::GetAttr(_) => true,
        Expr::List(list) => list.items.iter().any(has_attribute),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn guarded(source: &str) -> String {
        guard(source, "test", SyntaxConfig::default()).unwrap()
    }

    /// Expected texts follow from the rules of the module, written by hand.
    #[test]
    fn guards_stand_around_whole_operands() {
        for (source, expected) in [
            ("{{ a.b.c == (d + e).f }}", "{{ (a.b.c)|weighed == (((d + e)|bounded).f)|weighed }}"),
            ("{{ a | f(b) == c }}", "{{ ((a)|weighed | f((b)|weighed))|weighed == (c)|weighed }}"),
            ("{{ a[i][1] }}", "{{ ((((a)|shallow)[(i)|weighed])|shallow)[1] }}"),
            ("{{ x[1:].y }}", "{{ ((((x)|shallow)[1:])|eager).y }}"),
            ("{{ 'a' + b + '\\n' + c }}", "{{ 'a' + b + '\\n' + c }}"),
            ("{{ a == 'b' and not (c in d) }}", "{{ a == 'b' and not ((c)|weighed in (d)|weighed) }}"),
            ("{{ (a if b else c) == d }}", "{{ ((a if b else c)|weighed) == (d)|weighed }}"),
            ("{{ (not a)|f == b }}", "{{ ((not a)|f)|weighed == (b)|weighed }}"),
            ("{% set n.a, n.b = x, 1 %}", "{% set n.a, n.b = (x)|kept, 1 %}"),
            ("{{ -a|f ~ b.c(d) }}", "{{ ((-a)|weighed|f)|written ~ (b.c(d))|written }}"),
            ("{{ f(a, *b) }}", "{{ f(a, *(b)|shallow) }}"),
            ("{{ f(a == b, c=d < e) }}", "{{ f((a)|weighed == (b)|weighed, c=(d)|weighed < (e)|weighed) }}"),
            ("{{ loop.changed(a) }}{{ loop(b) }}", "{{ loop.changed((a)|weighed) }}{{ loop((b)|shallow) }}"),
            ("{{ a is string }}{{ a is eq('b') }}", "{{ a is string }}{{ a is eq('b') }}"),
            ("{{ a is eq(b) }}", "{{ (a)|weighed is eq((b)|weighed) }}"),
            (
                "{% macro m(x=a == b) %}{{ c == d }}{% endmacro %}",
                "{% macro m(x=(a)|weighed == (b)|weighed) %}{{ (c)|weighed == (d)|weighed }}{% endmacro %}",
            ),
        ] {
            assert_eq!(guarded(source), expected, "{source}");
        }
    }
}
