import assert from "node:assert/strict";
import { seededRandom } from "../../../tests/seeded_random.ts";
import { MESSAGE_BYTES_MAX } from "./limits.ts";
import { localAnswer } from "./local_answer.ts";
import { isAnswerTo, readAnswer, readQuery } from "./message.ts";
import { DnsFormError } from "./name.ts";
import { addresses, answerTo, decode, encode, head, queryOf, raw } from "./testing.ts";
import { EDE_PROHIBITED, NXDOMAIN, REFUSED } from "./types.ts";

const ROUNDS = Number(Deno.env.get("WEIR_FUZZ_ROUNDS") ?? 2000);

Deno.test("readQuery() reads the question and nothing else", () => {
  const cases: [name: string, type: string, text: string][] = [
    ["www.Example.COM", "A", "www.example.com."],
    [".", "NS", "."],
    ["_dns._tcp.a-b.c", "SRV", "_dns._tcp.a-b.c."],
    [`${"a".repeat(63)}.${"b".repeat(63)}.${"c".repeat(63)}.${"d".repeat(61)}`, "AAAA", ""],
  ];
  for (const [name, type, text] of cases) {
    for (const edns of [false, true]) {
      const bytes = queryOf(name, { id: 0x1234, type, edns });
      const { id, question, hasEdns } = readQuery(bytes);
      assert.deepEqual([id, question.name, hasEdns], [0x1234, text || `${name}.`, edns]);
      assert.equal(question.type, { A: 1, NS: 2, SRV: 33, AAAA: 28 }[type]);
    }
  }
});

Deno.test("readQuery() writes bytes that text cannot have so that no rule means them", () => {
  const of = (...labels: string[]) =>
    readQuery(raw(...head([1, 0, 0, 0]), ...labels, 0, 0, 1, 0, 1)).question.name;
  assert.equal(of("a.b", "c"), "a\\.b.c.");
  assert.equal(of("a\\", "c"), "a\\\\.c.");
  assert.equal(of("a b\0"), "a\\032b\\000.");
  // The sign for Kelvin is a K in lower case, and none of DNS's letters.
  assert.equal(of("\u212a"), "\\226\\132\\170.");
});

Deno.test("readQuery() refuses what two readers could take for two things", () => {
  const question = ["a", "b", 0, 0, 1, 0, 1] as const, none = head([1, 0, 0, 0]);
  const opt = [0, 0, 41, 4, 208, 0, 0, 0, 0, 0, 0];
  const long = "x".repeat(63);
  const cases: [words: RegExp, message: Uint8Array][] = [
    [/0 questions/, raw(...head([0, 0, 0, 0]))],
    [/2 questions/, raw(...head([2, 0, 0, 0]), ...question, ...question)],
    [/has answers/, raw(...head([1, 1, 0, 0]), ...question, 0, 0, 1, 0, 1, 0, 0, 0, 0, 0, 0)],
    [/is a pointer/, raw(...none, "a", 0xc0, 0, 0, 1, 0, 1)],
    [/is a pointer/, raw(...none, 0xc0, 12, 0, 1, 0, 1)],
    [/kind that is not known/, raw(...none, 0x41, 0, 0, 1, 0, 1)],
    [/more than 255/, raw(...none, long, long, long, long, 0, 0, 1, 0, 1)],
    [/within a name/, raw(...none, "a", 5, 0)],
    [/within its question/, raw(...none, "a", 0, 0, 1)],
    [/within a record/, raw(...head([1, 0, 0, 1]), ...question, ...opt.slice(0, 7))],
    [/within a record/, raw(...head([1, 0, 0, 1]), ...question, ...opt.slice(0, 10), 1)],
    [/two records of EDNS/, raw(...head([1, 0, 0, 2]), ...question, ...opt, ...opt)],
    [/3 bytes behind/, raw(...none, ...question, 1, 2, 3)],
    // A record's name that leads forwards, to itself, or into the header.
    ...[0xff, 21, 3].map((target): [RegExp, Uint8Array] => [
      /points to where/,
      raw(...head([1, 0, 0, 1]), ...question, 0xc0, target, ...opt.slice(1)),
    ]),
  ];
  for (const [words, message] of cases) {
    assert.throws(
      () => readQuery(message),
      (error) => error instanceof DnsFormError && words.test(error.message),
      `${words}`,
    );
  }
});

Deno.test("readAnswer() has every address of the answer section, whoever owns it, and the least lifetime", () => {
  const query = queryOf("www.a.b");
  const answer = answerTo(query, [
    { type: "CNAME", name: "www.a.b", ttl: 30, data: "Edge.c.d" },
    { type: "A", name: "edge.c.d", ttl: 60, data: "192.0.2.1" },
    { type: "A", name: "edge.c.d", ttl: 60, data: "192.0.2.1" },
    { type: "AAAA", name: "edge.c.d", ttl: 45, data: "2001:db8::1" },
    { type: "TXT", name: "edge.c.d", ttl: 1, data: ["192.0.2.9"] },
  ]);
  assert.deepEqual(readAnswer(answer), {
    rcode: 0,
    isTruncated: false,
    types: ["CNAME", "A", "A", "AAAA", "TXT"],
    addresses: ["192.0.2.1", "2001:db8::1"],
    aliases: ["edge.c.d."],
    ttlS: 30,
  });
  const elsewhere = encode({
    type: "response",
    id: 7,
    questions: [{ name: "a", type: "A" }],
    authorities: [{ type: "A", name: "a", ttl: 1, data: "192.0.2.7" }],
    additionals: [{ type: "A", name: "a", ttl: 1, data: "192.0.2.8" }, {
      type: "OPT",
      name: ".",
      udpPayloadSize: 512,
      extendedRcode: 1,
      flags: 0,
      options: [],
    }],
  });
  const { addresses: none, rcode, ttlS } = readAnswer(elsewhere);
  assert.deepEqual([none, rcode, ttlS], [[], 16, 0]);
});

Deno.test("readAnswer() follows a long way of pointers backwards, and none that has no end", () => {
  // www.a.b, an alias that points to a pointer that points to the question's name.
  const question = ["www", "a", "b", 0, 0, 1, 0, 1], record = [0, 5, 0, 1, 0, 0, 0, 9];
  const chain = raw(
    ...head([1, 2, 0, 0], 0x8180),
    ...question,
    0xc0,
    16,
    ...record,
    0,
    2,
    0xc0,
    12,
    0xc0,
    37,
    ...record,
    0,
    4,
    "x",
    0xc0,
    37,
  );
  assert.deepEqual(readAnswer(chain).aliases, ["www.a.b.", "x.www.a.b."]);
  const loop = raw(...head([1, 1, 0, 0], 0x8180), ...question, 0xc0, 12, ...record, 0, 4, "x", 0xc0, 37);
  assert.throws(() => readAnswer(loop), /points to where/);
});

Deno.test("readAnswer() counts the addresses that HTTPS and SVCB records hint at", () => {
  const question = ["a", 0, 0, 65, 0, 1];
  const data = [
    0,
    1,
    0,
    /* alpn */ 0,
    1,
    0,
    3,
    2,
    104,
    50,
    /* ipv4hint */ 0,
    4,
    0,
    8,
    192,
    0,
    2,
    1,
    192,
    0,
    2,
    2,
  ]
    .concat([/* ipv6hint */ 0, 6, 0, 16, 0x20, 1, 0xd, 0xb8, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 5]);
  const message = (bytes: number[]) =>
    raw(
      ...head([1, 1, 0, 0], 0x8180),
      ...question,
      0xc0,
      12,
      0,
      65,
      0,
      1,
      0,
      0,
      0,
      20,
      0,
      bytes.length,
      ...bytes,
    );
  const { addresses: found, ttlS, types } = readAnswer(message(data));
  assert.deepEqual([found, ttlS, types], [["192.0.2.1", "192.0.2.2", "2001:db8::5"], 20, ["HTTPS"]]);
  assert.throws(() => readAnswer(message(data.slice(0, -1))), /goes over its record/);
  assert.throws(() => readAnswer(message([0, 1, 0, 0, 4, 0, 3, 1, 2, 3])), /no list of addresses/);
});

Deno.test("readAnswer() reads 2000 addresses, and of a truncated answer what is there", () => {
  const large = answerTo(queryOf("a.b"), addresses("a.b", 2000));
  assert.equal(readAnswer(large).addresses.length, 2000);
  assert.throws(() => readAnswer(large.subarray(0, 500)), /within/);
  large[2] |= 2;
  const part = readAnswer(large.subarray(0, 500));
  assert.ok(part.isTruncated && part.addresses.length > 10 && part.addresses.length < 40);
});

Deno.test("isAnswerTo() wants the same question, in whatever case", () => {
  const isOf = (answer: Uint8Array, name: string, type = "A") => {
    const query = queryOf(name, { type });
    return isAnswerTo(answer, query, readQuery(query).question.end);
  };
  const answer = answerTo(queryOf("wWw.a-b.C"), []);
  assert.ok(isOf(answer, "www.a-b.c"));
  assert.ok(!isOf(answer, "www.a-b.c", "AAAA"));
  for (const other of ["wwx.a-b.c", "www.a-b.cc", "www.a\rb.c", "ww.a-b.c"]) {
    assert.ok(!isOf(answer, other), other);
  }
  // Types that differ as letters do in their case.
  assert.ok(!isOf(answerTo(queryOf("a", { type: "UNKNOWN_97" }), []), "a", "UNKNOWN_65"));
  const bare = raw(...head([0, 0, 0, 0], 0x8181));
  assert.ok(isOf(bare, "a.b"), "it only says what is wrong");
  bare[3] = 0;
  assert.ok(!isOf(bare, "a.b"));
});

Deno.test("localAnswer() repeats the question as it was asked, and says why where that is understood", () => {
  const query = queryOf("wWw.Secret.b", { id: 0xbeef, edns: true });
  const { question: { end } } = readQuery(query);
  const text = `Denied by policy ${"ä".repeat(400)}`;
  const refused = localAnswer(query, {
    rcode: REFUSED,
    questionEnd: end,
    extended: { code: EDE_PROHIBITED, text },
  });
  const read = decode(refused);
  assert.deepEqual([read.id, read.type, read.rcode, read.flag_rd, read.flag_ra], [
    0xbeef,
    "response",
    "REFUSED",
    true,
    true,
  ]);
  assert.deepEqual(read.questions, [{ name: "wWw.Secret.b", type: "A", class: "IN" }]);
  const [{ options: [option] }] = read.additionals;
  assert.equal(option.code, 15);
  const said = new TextDecoder("utf-8", { fatal: true }).decode(option.data.subarray(2));
  assert.ok(said.startsWith("Denied by policy ää") && text.startsWith(said));
  assert.ok(refused.length <= 512 && refused.length > 508, `${refused.length}`);
  assert.deepEqual(readAnswer(refused).rcode, 5);

  for (const [name, owner] of [["a.b.c", "b.c"], ["b", "."], [".", "."]]) {
    const asked = queryOf(name);
    const gone = decode(localAnswer(asked, { rcode: NXDOMAIN, questionEnd: readQuery(asked).question.end }));
    assert.equal(gone.rcode, "NXDOMAIN");
    assert.deepEqual(
      gone.authorities.map((
        one: { name: string; type: string; ttl: number; data: { minimum: number } },
      ) => [one.name, one.type, one.ttl, one.data.minimum]),
      [[owner, "SOA", 5, 5]],
    );
  }
});

Deno.test("nothing that a peer sends does more than to be refused, and what is read is what dns-packet reads", () => {
  const seed = Number(Deno.env.get("WEIR_FUZZ_SEED") ?? Date.now() % 1e9);
  const random = seededRandom(seed), whole = (below: number) => Math.floor(random() * below);
  const query = queryOf("www.example.com", { edns: true });
  const bases = [
    query,
    answerTo(query, [
      { type: "CNAME", name: "www.example.com", ttl: 3, data: "edge.example.com" },
      { type: "A", name: "edge.example.com", ttl: 3, data: "192.0.2.1" },
      { type: "AAAA", name: "edge.example.com", ttl: 3, data: "2001:db8::1" },
    ]),
    raw(
      ...head([1, 1, 0, 0], 0x8180),
      "a",
      0,
      0,
      65,
      0,
      1,
      0xc0,
      12,
      0,
      65,
      0,
      1,
      0,
      0,
      0,
      9,
      0,
      11,
      0,
      1,
      0,
      0,
      4,
      0,
      4,
      1,
      2,
      3,
      4,
    ),
  ];
  let read = 0, refused = 0, compared = 0;
  for (let round = 0; round < ROUNDS; round++) {
    const bytes = bases[whole(bases.length)].slice(0, random() < 0.3 ? 12 + whole(80) : undefined);
    for (let changes = whole(4); changes > 0; changes--) {
      bytes[2 + whole(bytes.length - 2)] = random() < 0.3 ? 0xc0 : whole(256);
    }
    assert.ok(bytes.length <= MESSAGE_BYTES_MAX);
    for (const reader of [readQuery, readAnswer]) {
      try {
        const found = reader(bytes) as ReturnType<typeof readAnswer> & ReturnType<typeof readQuery>;
        read++;
        let other;
        try {
          other = decode(bytes);
        } catch {
          continue; // It refuses records of whose insides nothing is wanted here.
        }
        const plain = /^[a-z0-9.-]+$/;
        if (reader === readQuery) {
          const { name } = other.questions[0];
          if (plain.test(found.question.name)) {
            assert.equal(found.question.name, `${name.toLowerCase()}.`.replace("..", "."), `seed ${seed}`);
          }
          compared++;
        } else if (!found.isTruncated) {
          const listed = (other.answers as { type: string; class: string; data: string }[]).filter((one) =>
            (one.type === "A" || one.type === "AAAA") && one.class === "IN"
          ).map((one) => one.data);
          for (const address of listed) {
            if (address.includes(".")) {
              assert.ok(found.addresses.includes(address), `seed ${seed}: ${address}`);
            }
          }
          compared++;
        }
      } catch (error) {
        assert.ok(error instanceof DnsFormError, `seed ${seed}: ${error}`);
        refused++;
      }
    }
  }
  assert.ok(
    read > ROUNDS / 10 && refused > ROUNDS / 10 && compared > ROUNDS / 20,
    `${read} ${refused} ${compared}`,
  );
});
