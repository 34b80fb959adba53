/* Structs of every form, and things to attach to. */
typedef unsigned int u32;
typedef unsigned long long u64;

struct leaf {
	int number;
	struct leaf *next;
};

union either {
	struct leaf *one;
	u64 other;
};

union alone {
	struct leaf *one;
};

struct root {
	u32 word;
	u32 low : 3;
	u32 high : 13;
	struct leaf inner;
	struct leaf many[2];
	union either either;
	union alone alone;
	const char *text;
	struct leaf *pointers[2];
	u64 table[2][2];
	void (*function)(void);
	struct missing *missing;
	char bytes[5];
	struct leaf rest[];
};

struct root__safe_trusted {
	struct leaf *one;
};

struct pair {
	u64 first;
	u64 second;
};

typedef void (*btf_trace_event)(void *data, struct root *root, int number, const char *text);
btf_trace_event event;
struct root__safe_trusted safe;

int __bpf_trace_event(void *data, struct root *root__nullable, int number, const char *text)
{
	return root__nullable->word + number;
}

int traced(struct root *root, struct pair pair, void *anything, struct root **deep)
{
	return root->word + (int)pair.first + (anything != 0) + (deep != 0);
}

struct root *found(float ratio, struct root *root)
{
	return root;
}

int __x64_sys_thing(const struct root *root)
{
	return root->inner.number;
}

int bpf_iter_unheard(struct root *root)
{
	return root->word;
}
