/** What answers HTTP requests, whoever serves them. @module */

/** A handler of HTTP requests. */
export type Handler = (request: Request) => Promise<Response> | Response;
