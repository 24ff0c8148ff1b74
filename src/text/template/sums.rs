//! Bounds lists that templates add up.
//!
//! minijinja joins lists lazily and free of charge: with each `x + x` a list doubles, and after about 32 of them all of the
//! work is done at once. So every sum of a template is given to the filter [`NAME`], which refuses lists that are too long while
//! they are still lazy. Of the two filters that join lists as well, `sum` is left to numbers and `chain`, which Jinja2
//! does not know, is taken away.

use minijinja::machinery::ast::{BinOpKind, Call, CallArg, Expr, Macro, Stmt};
use minijinja::machinery::{Span, parse};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, ValueKind};
use minijinja::{Environment, Error, ErrorKind, State, Value, filters};

/// Items of a list that was made by adding.
const MAX_ITEMS: usize = 1 << 16;
const NAME: &str = "bounded_sum";

/// Adds and replaces filters.
pub(super) fn install(environment: &mut Environment<'static>) {
    environment.add_filter(NAME, bounded);
    environment.add_filter("sum", sum);
    environment.remove_filter("chain");
}

fn bounded(value: Value) -> Result<Value, Error> {
    match value.len() {
        Some(items) if is_list(&value) && items > MAX_ITEMS => Err(Error::new(
            ErrorKind::InvalidOperation,
            format!("lists of {items} items are added, the limit is {MAX_ITEMS}"),
        )),
        _ => Ok(value),
    }
}

fn is_list(value: &Value) -> bool {
    matches!(value.kind(), ValueKind::Seq | ValueKind::Iterable)
}

fn sum(
    state: &State<'_, '_>,
    values: Value,
    attribute: Option<&str>,
    start: Option<Value>,
    kwargs: Kwargs,
) -> Result<Value, Error> {
    let start = start.or(kwargs.get::<Option<Value>>("start")?);
    if start.as_ref().is_some_and(is_list) {
        return Err(Error::new(ErrorKind::InvalidOperation, "sum adds numbers, not lists"));
    }
    let attribute = attribute.or(kwargs.get::<Option<&str>>("attribute")?);
    kwargs.assert_all_used()?;
    filters::sum(state, values, attribute, start, Kwargs::from_iter([] as [(&str, Value); 0]))
}

/// The template with every sum given to the filter; lines stay where they are.
///
/// # Errors
/// If it cannot be parsed.
pub(super) fn guard(source: &str, file: &str, syntax: SyntaxConfig) -> Result<String, Error> {
    let mut sums = Sums(vec![]);
    sums.statement(&parse(source, file, syntax)?);
    let (filter, mut inserts) = (format!(")|{NAME}"), vec![]);
    for span in &sums.0 {
        inserts.push((span.start_offset as usize, "("));
        inserts.push((span.end_offset as usize, filter.as_str()));
    }
    // Where one sum ends nothing starts, and of sums that start or end together any order is the same.
    inserts.sort_by_key(|(offset, _)| *offset);
    let (mut out, mut done) = (String::with_capacity(source.len() + 16 * inserts.len()), 0);
    for (offset, text) in inserts {
        out.push_str(source.get(done..offset).unwrap_or_default());
        out.push_str(text);
        done = offset;
    }
    out.push_str(source.get(done..).unwrap_or_default());
    Ok(out)
}

/// Where the sums of a template are.
struct Sums(Vec<Span>);

impl Sums {
    fn statements(&mut self, statements: &[Stmt<'_>]) {
        statements.iter().for_each(|statement| self.statement(statement));
    }

    fn statement(&mut self, statement: &Stmt<'_>) {
        match statement {
            Stmt::Template(template) => self.statements(&template.children),
            Stmt::EmitExpr(emit) => self.expression(&emit.expr),
            Stmt::EmitRaw(_) | Stmt::Continue(_) | Stmt::Break(_) => {}
            Stmt::ForLoop(each) => {
                self.expressions([&each.target, &each.iter].into_iter().chain(&each.filter_expr));
                self.statements(&each.body);
                self.statements(&each.else_body);
            }
            Stmt::IfCond(condition) => {
                self.expression(&condition.expr);
                self.statements(&condition.true_body);
                self.statements(&condition.false_body);
            }
            Stmt::WithBlock(with) => {
                self.expressions(with.assignments.iter().flat_map(|(target, value)| [target, value]));
                self.statements(&with.body);
            }
            Stmt::Set(set) => self.expressions([&set.target, &set.expr]),
            Stmt::SetBlock(set) => {
                self.expressions(std::iter::once(&set.target).chain(&set.filter));
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

    fn declaration(&mut self, declared: &Macro<'_>) {
        self.expressions(declared.args.iter().chain(&declared.defaults));
        self.statements(&declared.body);
    }

    fn call(&mut self, call: &Call<'_>) {
        self.expression(&call.expr);
        self.arguments(&call.args);
    }

    fn arguments(&mut self, arguments: &[CallArg<'_>]) {
        for argument in arguments {
            let (CallArg::Pos(value)
            | CallArg::Kwarg(_, value)
            | CallArg::PosSplat(value)
            | CallArg::KwargSplat(value)) = argument;
            self.expression(value);
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
            }
            Expr::UnaryOp(unary) => self.expression(&unary.expr),
            Expr::BinOp(binary) => {
                if matches!(binary.op, BinOpKind::Add) {
                    self.0.push(binary.span());
                }
                self.expressions([&binary.left, &binary.right]);
            }
            Expr::Compare(compare) => {
                self.expression(&compare.expr);
                self.expressions(compare.ops.iter().map(|operand| &operand.expr));
            }
            Expr::IfExpr(choice) => {
                self.expressions(
                    [&choice.test_expr, &choice.true_expr].into_iter().chain(&choice.false_expr),
                );
            }
            Expr::Filter(filter) => {
                self.expressions(&filter.expr);
                self.arguments(&filter.args);
            }
            Expr::Test(test) => {
                self.expression(&test.expr);
                self.arguments(&test.args);
            }
            Expr::GetAttr(attribute) => self.expression(&attribute.expr),
            Expr::GetItem(item) => self.expressions([&item.expr, &item.subscript_expr]),
            Expr::Call(call) => self.call(call),
            Expr::List(list) => self.expressions(&list.items),
            Expr::Tuple(tuple) => self.expressions(&tuple.items),
            Expr::Map(map) => self.expressions(map.keys.iter().chain(&map.values)),
        }
    }
}
