// info - checks a checkpoint from end to end and describes it: architecture, parameters, tensors, tokenizer, hash.
#include "cli.h"
#include "model_weights.h"
#include "tok_model.h"
#include <jansson.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

static char *model_dir;
static bool list;

// 1234567 as "1,234,567".
static const char *grouped(char out[32], size_t x) {
    char digits[24];
    int n = snprintf(digits, sizeof digits, "%zu", x), k = 0;
    for (int i = 0; i < n; i++) {
        if (i && (n - i) % 3 == 0) out[k++] = ',';
        out[k++] = digits[i];
    }
    out[k] = 0;
    return out;
}

static void print_opt(const model_config *c) {
    const arch a = arch_of(c);
    printf("architecture  OPT, %s, %d layers, %d heads of %d, hidden %d, FFN %d\n", a.norm_first ? "pre-LN" : "post-LN",
           c->L, c->H, c->D, c->E, c->F);
    printf("              %d positions, vocabulary %d, embedding width %d%s%s", c->positions, c->V, c->P,
           a.norm_first && !a.norm_at_end ? ", no final norm" : "", c->bias ? "" : ", no biases");
    printf("%s%s%s\n", c->plain_norms ? ", norms without weights" : "", a.act == ACT_RELU ? "" : ", ",
           a.act == ACT_RELU ? "" : activation_names[a.act]);
}

static void print_neox(const model_config *c) {
    const arch a = arch_of(c);
    printf("architecture  GPT-NeoX, %d layers, %d heads of %d, hidden %d, FFN %d (%s) %s\n", c->L, c->H, c->D, c->E,
           c->F, activation_names[a.act], a.parallel ? "beside the attention" : "after the attention");
    printf("              %d positions, rotary (%d numbers of a head, theta %g), vocabulary %d, %s head%s\n",
           c->positions, a.rotary, c->llama.rope.theta, c->V, c->tied ? "tied" : "own",
           a.bias_qkv ? "" : ", no biases in the attention");
}

static void print_llama(const model_config *c) {
    static const char *const names[] = {
        [MODEL_LLAMA] = "Llama", [MODEL_MISTRAL] = "Mistral", [MODEL_QWEN2] = "Qwen2", [MODEL_QWEN3] = "Qwen3"};
    const llama_config *f = &c->llama;
    printf("architecture  %s, %d layers, %d heads of %d on %d KV heads, hidden %d, gated FFN %d (%s)\n", names[c->type],
           c->L, c->H, c->D, f->K, c->E, c->F, activation_names[f->act]);
    printf("              %d positions%s, rotary (%s, theta %g), vocabulary %d, %s head%s%s\n", c->positions,
           f->window ? " (a sliding window)" : "", rope_names[f->rope.kind], f->rope.theta, c->V,
           c->tied ? "tied" : "own", f->bias_qkv || f->bias_out || f->bias_ffn ? ", biases" : "",
           f->qk_norm ? ", norms of q and k" : "");
}

// A special token's id, or what stands for none.
static const char *token_text(char out[16], int id) {
    snprintf(out, 16, "%d", id);
    return id < 0 ? "none" : out;
}

static void print_architecture(const model_config *c) {
    char bos[16], eos[16], pad[16];
    printf("model         %s\n", model_dir);
    if (c->type == MODEL_OPT)
        print_opt(c);
    else if (c->type == MODEL_NEOX)
        print_neox(c);
    else
        print_llama(c);
    printf("              tokens: begin %s, end %s, padding %s\n", token_text(bos, c->bos), token_text(eos, c->eos),
           token_text(pad, c->pad));
}

static const char *text_of(const json_t *root, const char *key) {
    return json_is_string(json_object_get(root, key)) ? json_string_value(json_object_get(root, key)) : "?";
}

// For a compacted model: what each layer has left, where that differs, and the mask that made it.
static void print_compaction(const ckpt *from) {
    const model_config *c = &from->config;
    const bool differ = model_compacted(c);
    for (unit_kind kind = UNIT_HEADS; kind < UNIT_KINDS && differ; kind++) {
        printf("%s", kind == UNIT_HEADS ? "compacted     heads" : "              neurons");
        for (int l = 0; l < c->L; l++) printf(" %d", model_units(c, l, kind));
        printf(" of %d a layer\n", kind == UNIT_HEADS ? c->H : c->F);
    }
    char *path = xasprintf("%s/compaction.json", from->dir);
    json_t *root = json_load_file(path, 0, NULL);
    if (root) {
        const bool zeroed = strcmp(text_of(root, "form"), "zeroed") == 0;
        const char *said = zeroed ? "zeroed       " : "compacted    ";
        printf("%s from %s (hash %.8s), mask %s", differ ? "             " : said, text_of(root, "source"),
               text_of(root, "source_hash"), text_of(root, "mask"));
        if (json_object_get(root, "criterion")) printf(" %s", text_of(root, "criterion"));
        if (json_object_get(root, "scope"))
            printf(" %s %s %s %%", text_of(root, "scope"), text_of(root, "units"), text_of(root, "sparsity"));
        printf("\n");
    }
    json_decref(root);
    free(path);
}

static void print_tensors(const ckpt *c) {
    char a[32], b[32];
    size_t total = 0;
    for (int i = 0; i < c->n_tensors; i++) total += tensor_numbers(&c->tensors[i]);
    printf("parameters    %s\n", grouped(a, total));
    printf("tensors       %d in %d file%s, %s bytes\n", c->n_tensors, c->n_files, c->n_files == 1 ? "" : "s",
           grouped(a, c->bytes));
    for (int type = DT_F32; type < DTYPES; type++) {
        size_t n = 0, bytes = 0;
        for (int i = 0; i < c->n_tensors; i++)
            if (c->tensors[i].type == (dtype)type) {
                n++;
                bytes += tensor_bytes(&c->tensors[i]);
            }
        if (n) printf("              %s %s, %s bytes\n", grouped(a, n), dtype_name((dtype)type), grouped(b, bytes));
    }
}

// Matrices that run in another form than the file's (model_weights.h).
static void print_turned(const ckpt *c) {
    const family *f = arch_of(&c->config).family;
    char bytes[32];
    size_t all = 0;
    int n = 0, layer;
    double change = 0;
    weight_form form = {0};
    for (int i = 0; i < c->n_tensors; i++) {
        const tensor *t = &c->tensors[i];
        const weight_form of = model_weight_form(&c->config, arch_find(f, t->name, &layer), t->type, -1, ops_cpu());
        if (!of.turned) continue;
        form = of;
        all += dtype_size(of.type, tensor_numbers(t));
        change += model_turning_change(t, of);
        n++;
    }
    if (n)
        printf("              %d of them, whose columns units read, run turned in %s: %s bytes, numbers off by %.2g of "
               "their size (rms)\n",
               n, dtype_name(form.type), grouped(bytes, all), sqrt(change / n));
}

static void print_list(const ckpt *c) {
    char bytes[32];
    for (int i = 0; i < c->n_tensors; i++) {
        const tensor *t = &c->tensors[i];
        char shape[96];
        int n = 0;
        for (int k = 0; k < t->rank; k++)
            n += snprintf(shape + n, sizeof shape - (size_t)n, "%s%lld", k ? " x " : "", (long long)t->dim[k]);
        printf("  %-44s %-9s %-16s %14s bytes\n", t->name, dtype_name(t->type), shape, grouped(bytes, tensor_bytes(t)));
    }
}

// Sizes, and one line of text to ids and back: a wrong tokenizer shows here.
static int print_tokenizer(const ckpt *c) {
    static const char text[] = "The old man walked into the caf\xc3\xa9.";
    if (!tok_there(c->dir)) {
        printf("tokenizer     none (no tokenizer.json, no vocab.json and merges.txt); score and sweep need it\n");
        return 0;
    }
    tok *t = tok_open_model(c->dir, &c->config);
    int32_t *ids = NULL;
    int n = 0, cap = 0, bad = -1;
    char *back = NULL;
    if (!t || tok_encode(t, text, sizeof text - 1, &ids, &n, &cap)) goto done;
    back = tok_decode(t, ids, n);
    if (strcmp(back, text)) {
        err_set("%s: the tokenizer turns \"%s\" into \"%.100s\"; its files do not belong together", model_dir, text,
                back);
        goto done;
    }
    printf("tokenizer     %d ids, hash %.8s\n              \"%s\" ->", tok_size(t), tok_hash(t), text);
    for (int i = 0; i < n; i++) printf(" %d", ids[i]);
    printf(" -> same text\n");
    bad = 0;
done:
    free(back);
    free(ids);
    tok_close(t);
    return bad;
}

int main(int argc, char **argv) {
    const cli_option options[] = {
        {.name = "model",
         .type = CLI_STR,
         .value = &model_dir,
         .arg = "DIR",
         .help = "checkpoint: config.json, weights, tokenizer.json, or vocab.json and merges.txt",
         .required = true},
        {.name = "tensors", .type = CLI_FLAG, .value = &list, .help = "list every tensor"},
        {0}};
    cli_parse(argc, argv, "checks and describes a checkpoint; exit 1 with one line if it is broken", options);
    ckpt c;
    if (ckpt_open(&c, model_dir) || ckpt_check_values(&c)) die(1, "%s", err_get());
    print_architecture(&c.config);
    print_compaction(&c);
    print_tensors(&c);
    print_turned(&c);
    if (list) print_list(&c);
    if (print_tokenizer(&c)) die(1, "%s", err_get());
    printf("values        all finite\nhash          %s\n", ckpt_hash(&c));
    ckpt_close(&c);
    stdout_end();
    return 0;
}
