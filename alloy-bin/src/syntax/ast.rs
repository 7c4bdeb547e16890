//! The tree of a configuration. Every node carries its span; literals carry their value, the formatter works on
//! tokens and needs no more.
//!
//! Operators of one precedence and the suffixes of one operand are lists, not nested pairs, so that the height of a
//! tree is bounded by the nesting of brackets, which the parser limits. Walking it recursively is safe.

use super::source::Span;

/// One or several parsed files.
#[derive(Clone, Debug, Default)]
pub struct File {
    /// What the file says, in its order.
    pub statements: Vec<Statement>,
}

/// One line or block of a body.
#[derive(Clone, Debug)]
pub enum Statement {
    /// `name = value`.
    Attribute(Attribute),
    /// `name "label" { ... }`.
    Block(Block),
}

impl Statement {
    /// The attribute, if it is one.
    pub fn as_attribute(&self) -> Option<&Attribute> {
        match self {
            Statement::Attribute(attribute) => Some(attribute),
            Statement::Block(_) => None,
        }
    }

    /// The block, if it is one.
    pub fn as_block(&self) -> Option<&Block> {
        match self {
            Statement::Attribute(_) => None,
            Statement::Block(block) => Some(block),
        }
    }
}

/// `name = value`.
#[derive(Clone, Debug)]
pub struct Attribute {
    /// The name.
    pub name: Ident,
    /// The value.
    pub value: Expr,
}

/// `a.b "label" { ... }`.
#[derive(Clone, Debug)]
pub struct Block {
    /// The parts of the dotted name; never empty.
    pub name: Vec<Ident>,
    /// The label without its quotes.
    pub label: Option<Ident>,
    /// What stands between the braces.
    pub statements: Vec<Statement>,
    /// From the name to the closing brace.
    pub span: Span,
}

impl Block {
    /// The attributes inside it.
    pub fn attributes(&self) -> impl Iterator<Item = &Attribute> {
        self.statements.iter().filter_map(Statement::as_attribute)
    }

    /// The blocks inside it.
    pub fn blocks(&self) -> impl Iterator<Item = &Block> {
        self.statements.iter().filter_map(Statement::as_block)
    }

    /// The dotted name.
    pub fn full_name(&self) -> String {
        let parts: Vec<&str> = self.name.iter().map(|part| part.text.as_str()).collect();
        parts.join(".")
    }

    /// The dotted name, and the label if there is one: what a reference begins with.
    pub fn id(&self) -> String {
        match &self.label {
            Some(label) => format!("{}.{}", self.full_name(), label.text),
            None => self.full_name(),
        }
    }

    /// Name and label: where messages about the block as a whole point.
    pub fn header(&self) -> Span {
        let last = self.label.as_ref().or(self.name.last());
        last.map_or(self.span, |last| self.span.to(last.span))
    }
}

/// A name and where it stands.
#[derive(Clone, Debug)]
pub struct Ident {
    /// The name.
    pub text: String,
    /// Where it stands, quotes included.
    pub span: Span,
}

/// An expression.
#[derive(Clone, Debug)]
pub struct Expr {
    /// What it is.
    pub kind: ExprKind,
    /// Where it stands.
    pub span: Span,
}

/// What an expression is.
#[derive(Clone, Debug)]
pub enum ExprKind {
    /// A constant.
    Literal(Literal),
    /// A name.
    Ident(String),
    /// An operand with everything that follows it: `a.b[0](c)`; at least one suffix.
    Chain {
        /// What comes first.
        operand: Box<Expr>,
        /// What follows, in order.
        suffixes: Vec<Suffix>,
    },
    /// `!a` or `-a`.
    Unary {
        /// The operator.
        operator: UnaryOperator,
        /// Its operand.
        operand: Box<Expr>,
    },
    /// Operands joined by operators of one precedence, applied from the left: `a + b - c`.
    Binary {
        /// The first operand.
        first: Box<Expr>,
        /// At least one operator with its right operand.
        rest: Vec<(BinaryOperator, Expr)>,
    },
    /// `(a)`.
    Parenthesized(Box<Expr>),
    /// `[a, b]`.
    Array(Vec<Expr>),
    /// `{ a = 1, "b" = 2 }`.
    Object(Vec<Field>),
}

/// A constant.
#[derive(Clone, Debug, PartialEq)]
pub enum Literal {
    /// `null`.
    Null,
    /// `true` or `false`.
    Bool(bool),
    /// A whole number; the sign is an operator.
    Integer(u64),
    /// A number with a fraction or an exponent, or one too large for an integer.
    Float(f64),
    /// A string, escapes resolved.
    String(String),
}

/// What follows an operand.
#[derive(Clone, Debug)]
pub enum Suffix {
    /// `.name`.
    Access(Ident),
    /// `[index]`.
    Index(Expr),
    /// `(arguments)`.
    Call {
        /// The arguments in order.
        arguments: Vec<Expr>,
        /// The parentheses and what is between them.
        span: Span,
    },
}

impl Suffix {
    /// Where it stands.
    pub fn span(&self) -> Span {
        match self {
            Suffix::Access(name) => name.span,
            Suffix::Index(index) => index.span,
            Suffix::Call { span, .. } => *span,
        }
    }
}

/// One entry of an object.
#[derive(Clone, Debug)]
pub struct Field {
    /// The key, without quotes.
    pub key: Ident,
    /// The value.
    pub value: Expr,
}

/// `!` or `-`.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum UnaryOperator {
    /// `!`.
    Not,
    /// `-`.
    Negate,
}

/// An operator between two operands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs, reason = "the variants are the operators' names")]
pub enum BinaryOperator {
    Or,
    And,
    Equal,
    NotEqual,
    Less,
    LessOrEqual,
    Greater,
    GreaterOrEqual,
    Add,
    Subtract,
    Multiply,
    Divide,
    Modulo,
    Power,
}

impl BinaryOperator {
    /// How tightly it binds, from 1.
    pub fn precedence(self) -> u8 {
        use BinaryOperator::*;
        match self {
            Or => 1,
            And => 2,
            Equal | NotEqual | Less | LessOrEqual | Greater | GreaterOrEqual => 3,
            Add | Subtract => 4,
            Multiply | Divide | Modulo => 5,
            Power => 6,
        }
    }

    /// The operator as it is written.
    pub fn symbol(self) -> &'static str {
        use BinaryOperator::*;
        match self {
            Or => "||",
            And => "&&",
            Equal => "==",
            NotEqual => "!=",
            Less => "<",
            LessOrEqual => "<=",
            Greater => ">",
            GreaterOrEqual => ">=",
            Add => "+",
            Subtract => "-",
            Multiply => "*",
            Divide => "/",
            Modulo => "%",
            Power => "^",
        }
    }
}
