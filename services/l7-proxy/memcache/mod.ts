/** memcached's two protocols: each command is judged. @module */

export { MemcacheShared } from "./limits.ts";
export { MemcacheConnection } from "./memcache_connection.ts";
export type { MemcacheJudge, MemcacheQuestion, MemcacheVerdict } from "./verdict.ts";
