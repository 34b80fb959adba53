/**
 * State in a database: for the cluster-scope services only, so that nobody else loads a database driver.
 * @module
 */
export * from "./database.ts";
export * from "./store.ts";
