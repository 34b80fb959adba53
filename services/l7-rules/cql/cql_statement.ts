/**
 * What a CQL text asks: action and table of each of its statements, as the policies name them. Reads Cassandra's grammar
 * (3.x to 5.x) as far as that needs; a text that it does not know is refused, never guessed.
 * @module
 */

import { CqlError, CqlLexer, TokenKind } from "./cql_lexer.ts";

/** One statement. */
export interface CqlStatement {
  /** As `query_action` has it: "select", "create-table". "describe", "alter-materialized-view", ... have no name there. */
  readonly action: string;
  /** As it was written, folded to lower case unless quoted; "": the connection's. Always "" where `scope` is "none". */
  readonly keyspace: string;
  /** Likewise; "" where `scope` is not "table". */
  readonly table: string;
  /** What the action is done to. */
  readonly scope: "table" | "keyspace" | "none";
}

/** What a text is. */
export interface CqlText {
  /** The statements to judge: one, or the members of a `BEGIN BATCH`, each (action, table) once. */
  readonly statements: readonly CqlStatement[];
  /** Keyspace that it makes the connection's own; null: it is no `USE`. */
  readonly use: string | null;
}

/** Statements that differ in one text; more are refused. */
export const STATEMENTS_MAX = 256;
/** Length of a name; Cassandra's own limit is 48, or 222 for tables of newer versions. */
export const NAME_LENGTH_MAX = 222;

/** Reads a text. Throws {@link CqlError} for one that is no single statement, or none that is known. */
export function readCql(text: string): CqlText {
  return new StatementReader(text).read();
}

class StatementReader {
  readonly #lexer: CqlLexer;

  constructor(text: string) {
    this.#lexer = new CqlLexer(text);
    this.#lexer.next();
  }

  read(): CqlText {
    const word = this.#takeName("a statement");
    if (word === "use") {
      const keyspace = this.#identifier();
      this.#end();
      return { statements: [{ action: "use", keyspace, table: "", scope: "keyspace" }], use: keyspace };
    }
    const statements = word === "begin" ? this.#batch() : [this.#statement(word)];
    this.#skipToEnd(word);
    return { statements, use: null };
  }

  /** Reads the statement's head, up to its table; the rest is for #skipToEnd. */
  #statement(word: string): CqlStatement {
    switch (word) {
      case "select":
      case "insert":
      case "update":
      case "delete":
        return this.#data(word);
      case "truncate":
        if (this.#isName("table") || this.#isName("columnfamily")) this.#lexer.next();
        return this.#onTable("truncate-table");
      case "create":
      case "alter":
      case "drop":
        return this.#definition(word);
      case "grant":
      case "revoke":
        return none(`${word}-${this.#hasNameAhead("on") ? "permission" : "role"}`);
      case "list":
        return none(
          this.#isName("roles")
            ? "list-roles"
            : this.#isName("users") || this.#isName("superusers")
            ? "list-users"
            : "list-permissions",
        );
      case "describe":
      case "desc":
        return none("describe");
      case "add":
        if (this.#isName("identity")) return none("add-identity");
    }
    throw new CqlError(`${JSON.stringify(word.slice(0, 40))} begins no statement that is known`);
  }

  #data(word: string): CqlStatement {
    if (word === "insert") this.#expectName("into");
    // FROM is a reserved word: without quotes it is nothing else, wherever it stands.
    if (word === "select" || word === "delete") this.#skipBeyond("from");
    return this.#onTable(word);
  }

  #definition(word: string): CqlStatement {
    let object = this.#takeName(`what to ${word}`);
    if (object === "or" && word === "create") {
      this.#expectName("replace");
      object = this.#takeName("what to create");
      if (object !== "function" && object !== "aggregate") throw this.#unexpected("FUNCTION or AGGREGATE");
    }
    switch (object) {
      case "keyspace":
      case "schema":
        this.#condition();
        return { action: `${word}-keyspace`, keyspace: this.#identifier(), table: "", scope: "keyspace" };
      case "table":
      case "columnfamily":
        this.#condition();
        return this.#onTable(`${word}-table`);
      case "custom":
        if (word !== "create") break;
        this.#expectName("index");
        return none("create-index");
      case "materialized":
        this.#expectName("view");
        return none(`${word}-materialized-view`);
      case "index":
      case "trigger":
      case "function":
      case "aggregate":
        if (word === "alter") break;
        return none(`${word}-${object}`);
      case "type":
      case "role":
      case "user":
        return none(`${word}-${object}`);
      case "identity":
        if (word === "drop") return none("drop-identity");
    }
    throw new CqlError(`${word.toUpperCase()} ${object.slice(0, 40)} is no statement that is known`);
  }

  /** `BEGIN [UNLOGGED|COUNTER] BATCH [USING ...] members APPLY BATCH`. Members need no semicolon between them. */
  #batch(): CqlStatement[] {
    if (this.#isName("unlogged") || this.#isName("counter")) this.#lexer.next();
    this.#expectName("batch");
    const found = new Map<string, CqlStatement>();
    let open = true;
    for (;;) {
      const word = this.#isKind(TokenKind.Name) ? this.#lexer.value : "";
      if (word === "apply") break;
      if (word === "insert" || word === "update" || word === "delete") {
        this.#lexer.next();
        const statement = this.#data(word);
        found.set(JSON.stringify([statement.action, statement.keyspace, statement.table]), statement);
        if (found.size > STATEMENTS_MAX) {
          throw new CqlError(`the batch has over ${STATEMENTS_MAX} different statements`);
        }
        open = true;
      } else if (this.#isMark(";")) {
        open = false;
        this.#lexer.next();
      } else if (this.#isKind(TokenKind.End) || !open) {
        throw this.#unexpected("INSERT, UPDATE, DELETE or APPLY BATCH");
      } else {
        this.#lexer.next();
      }
    }
    this.#lexer.next();
    this.#expectName("batch");
    this.#end();
    if (found.size === 0) throw new CqlError("the batch is empty");
    return [...found.values()];
  }

  #onTable(action: string): CqlStatement {
    const first = this.#identifier();
    if (!this.#isMark(".")) return { action, keyspace: "", table: first, scope: "table" };
    this.#lexer.next();
    const table = this.#identifier();
    if (this.#isMark(".")) throw this.#unexpected("no third part of a name");
    return { action, keyspace: first, table, scope: "table" };
  }

  /** `IF EXISTS`, `IF NOT EXISTS`. */
  #condition(): void {
    if (!this.#isName("if")) return;
    this.#lexer.next();
    if (this.#isName("not")) this.#lexer.next();
    this.#expectName("exists");
  }

  /** The name of a keyspace or table. Those that exist consist of letters, digits and "_" also where they are quoted. */
  #identifier(): string {
    const { kind, value } = this.#lexer;
    if (kind !== TokenKind.Name && kind !== TokenKind.Quoted) throw this.#unexpected("a name");
    if (value.length > NAME_LENGTH_MAX || !/^[A-Za-z0-9_]+$/.test(value)) {
      throw new CqlError(`${JSON.stringify(value.slice(0, 40))} cannot be the name of a keyspace or table`);
    }
    this.#lexer.next();
    return copied(value);
  }

  /** The only one of its kind in the statement: a second is none that the grammar has. */
  #skipBeyond(word: string): void {
    while (!this.#isName(word)) {
      if (this.#isKind(TokenKind.End) || this.#isMark(";")) throw this.#unexpected(word.toUpperCase());
      this.#lexer.next();
    }
    this.#lexer.next();
  }

  #hasNameAhead(word: string): boolean {
    while (!this.#isKind(TokenKind.End) && !this.#isMark(";")) {
      if (this.#isName(word)) return true;
      this.#lexer.next();
    }
    return false;
  }

  /** The rest of the one statement, then nothing more. Words that begin a part that was passed may not come again. */
  #skipToEnd(word: string): void {
    const once = word === "select" || word === "delete" ? "from" : "";
    while (!this.#isKind(TokenKind.End) && !this.#isMark(";")) {
      if (once !== "" && this.#isName(once)) throw this.#unexpected("one FROM");
      this.#lexer.next();
    }
    this.#end();
  }

  #end(): void {
    while (this.#isMark(";")) this.#lexer.next();
    if (!this.#isKind(TokenKind.End)) throw this.#unexpected("nothing after the statement");
  }

  #isKind(kind: TokenKind): boolean {
    return this.#lexer.kind === kind;
  }

  #isName(word: string): boolean {
    return this.#lexer.kind === TokenKind.Name && this.#lexer.value === word;
  }

  #isMark(mark: string): boolean {
    return this.#lexer.kind === TokenKind.Mark && this.#lexer.value === mark;
  }

  #expectName(word: string): void {
    if (!this.#isName(word)) throw this.#unexpected(word.toUpperCase());
    this.#lexer.next();
  }

  #takeName(what: string): string {
    if (!this.#isKind(TokenKind.Name)) throw this.#unexpected(what);
    const { value } = this.#lexer;
    this.#lexer.next();
    return value;
  }

  #unexpected(wanted: string): CqlError {
    const { kind, value } = this.#lexer;
    const found = kind === TokenKind.End
      ? "the end"
      : kind === TokenKind.Other
      ? "a constant"
      : JSON.stringify(value.slice(0, 40));
    return new CqlError(`found ${found}, expected ${wanted}`);
  }
}

/** The engine makes a long piece of a text a view of it: a name that is kept would keep all of the text, up to 3 MiB. */
function copied(name: string): string {
  return String.fromCharCode(...Array.from(name, (character) => character.charCodeAt(0)));
}

function none(action: string): CqlStatement {
  return { action, keyspace: "", table: "", scope: "none" };
}
