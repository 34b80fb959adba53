/** What a CQL text does, see README.md of the package. @module */
export { CqlError } from "./cql_lexer.ts";
export * from "./cql_question.ts";
export { type CqlStatement, type CqlText, readCql } from "./cql_statement.ts";
