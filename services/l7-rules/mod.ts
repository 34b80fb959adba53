/** @weir/l7-rules, see README.md. @module */
export * from "./cassandra_rules.ts";
export * from "./cql/mod.ts";
export * from "./dns_rules.ts";
export * from "./http_rules.ts";
export * from "./judgement.ts";
export * from "./kafka_rules.ts";
export * from "./memcache_command.ts";
export * from "./memcache_rules.ts";
export * from "./pattern.ts";
export * from "./request.ts";
export * from "./rule_set.ts";
export * from "./server_name_rules.ts";
