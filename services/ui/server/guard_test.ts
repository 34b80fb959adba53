import assert from "node:assert/strict";
import { guard, type GuardOptions } from "./guard.ts";
import { Sessions, Tickets } from "./sessions.ts";

const sessions = new Sessions({ key: new Uint8Array(32), nowS: () => 0 });

const options: GuardOptions = {
  base: "/weir/",
  hosts: ["ui.example"],
  loopback: true,
  sessions,
  tls: false,
  nowMs: () => 0,
};
const ask = (path: string, headers: Record<string, string> = {}, method = "GET") =>
  new Request(`http://localhost${path}`, { method, headers: { host: "127.0.0.1:12000", ...headers } });
const ok = () => new Response("fine");

Deno.test("guard() answers its own names alone, GET alone, and no other page", async () => {
  const handler = guard(ok, options);
  const cases: [Request, number][] = [
    [ask("/weir/"), 200],
    [ask("/weir/api/live", { host: "ui.example" }), 200],
    [ask("/weir/api/live", { host: "UI.example:443" }), 200],
    [ask("/weir/api/live", { host: "[::1]:12000" }), 200],
    [ask("/weir/api/live", { host: "evil.example" }), 421],
    [ask("/weir/api/live", { host: "127.0.0.1.evil.example" }), 421],
    [ask("/weir/api/live", { host: "" }), 421],
    [ask("/weir/api/live", { host: "localhost@evil.example" }), 421],
    [ask("/weir/api/live", {}, "POST"), 405],
    [ask("/weir/api/preview", {}, "POST"), 405],
    [ask("/weir/api/preview", { "content-type": "text/plain" }, "POST"), 405],
    [ask("/weir/api/preview", { "content-type": "application/json" }, "DELETE"), 405],
    [ask("/api/preview", { "content-type": "application/json" }, "POST"), 405],
    [
      ask("/weir/api/preview", { "content-type": "application/json", "sec-fetch-site": "same-site" }, "POST"),
      403,
    ],
    [ask("/weir/api/preview", { "content-type": "application/json" }, "POST"), 200],
    [ask("/weir/api/live", { "sec-fetch-site": "cross-site" }), 403],
    [ask("/weir/api/live", { "sec-fetch-site": "same-site" }), 403],
    [ask("/weir/api/live", { "sec-fetch-site": "same-origin" }), 200],
    [ask("/weir/", { "sec-fetch-site": "cross-site" }), 200],
    [ask(`/weir/api/flows?${"a".repeat(9000)}`), 414],
  ];
  for (const [request, status] of cases) {
    const response = await handler(request);
    assert.equal(response.status, status, `${request.url} ${request.headers.get("host")}`);
    assert.match(response.headers.get("content-security-policy")!, /^default-src 'none'; script-src 'self';/);
    await response.body?.cancel();
  }
});

Deno.test("guard() takes a token once, keeps a cookie that scripts cannot read, and stops guessing", async () => {
  let nowMs = 0;
  const handler = guard(ok, {
    ...options,
    token: "secret",
    tls: true,
    nowMs: () => nowMs,
    limits: { wrongTokensMax: 3 },
  });
  assert.equal((await handler(ask("/weir/"))).status, 401);
  assert.equal((await handler(ask("/weir/"), true)).status, 200, "a certificate was shown");
  assert.equal((await handler(ask("/weir/", { authorization: "Bearer secret" }))).status, 200);
  assert.equal((await handler(ask("/weir/", { cookie: `${sessions.cookie}=wrong` }))).status, 401);
  const welcome = await handler(ask("/weir/map?token=secret&by=node"));
  assert.equal(welcome.status, 303);
  assert.equal(welcome.headers.get("location"), "/weir/map?by=node");
  const cookie = welcome.headers.get("set-cookie")!;
  assert.match(cookie, /; Path=\/weir\/; HttpOnly; SameSite=Strict; Secure$/);
  assert.equal((await handler(ask("/weir/", { cookie: `a=b; ${cookie.split(";")[0]}` }))).status, 200);
  assert.equal(
    (await handler(ask("//evil.example/?token=secret"))).headers.get("location"),
    "/evil.example/",
  );
  for (let i = 0; i < 3; i++) assert.equal((await handler(ask("/weir/?token=guess"))).status, 401);
  assert.equal((await handler(ask("/weir/?token=secret"))).status, 429, "guessing is over");
  nowMs = 61_000;
  assert.equal((await handler(ask("/weir/?token=secret"))).status, 303);
});

Deno.test("guard() lets a browser in once with a ticket, and nobody without one", async () => {
  const tickets = new Tickets(() => 0);
  const handler = guard(ok, { ...options, tickets });
  const status = async (path: string, headers: Record<string, string> = {}) =>
    (await handler(ask(path, headers))).status;
  for (const path of ["/weir/", "/weir/api/live", "/weir/?token=", "/weir/?token=guess"]) {
    assert.equal(await status(path), 401, path);
  }
  const { token } = tickets.give();
  const welcome = await handler(ask(`/weir/flows?token=${token}`));
  assert.deepEqual([welcome.status, welcome.headers.get("location")], [303, "/weir/flows"]);
  assert.equal(await status(`/weir/flows?token=${token}`), 401, "it was for one browser");
  const cookie = welcome.headers.get("set-cookie")!.split(";")[0];
  assert.equal(await status("/weir/api/live", { cookie }), 200);
  const other = tickets.give();
  assert.equal(await status(`/weir/?token=${other.token}`, { cookie }), 303, "it is in already");
  assert.equal(await status(`/weir/?token=${other.token}`), 303, "and left it to another");
  for (let i = 0; i < 200; i++) await status("/weir/?token=guess");
  assert.equal(await status(`/weir/?token=${tickets.give().token}`), 303, "whoever guesses shuts nobody out");
});

Deno.test("guard() asks for a certificate where nothing else lets in", async () => {
  const handler = guard(ok, { ...options, takesCertificates: true });
  assert.equal((await handler(ask("/weir/api/live"))).status, 401);
  assert.equal((await handler(ask("/weir/api/live"), true)).status, 200);
});

Deno.test("guard() holds so many answers at once, and gives the places back when bodies end or are given up", async () => {
  const handler = guard(
    () => new Response(new ReadableStream({ pull: (to) => to.enqueue(new Uint8Array(1)) })),
    { ...options, limits: { requestsMax: 2 } },
  );
  const first = await handler(ask("/weir/api/live")), second = await handler(ask("/weir/api/live"));
  assert.equal((await handler(ask("/weir/api/live"))).status, 503);
  await first.body!.cancel();
  const third = await handler(ask("/weir/api/live"));
  assert.equal(third.status, 200);
  for (const one of [second, third]) await one.body!.cancel();
});
