//! Templates by name, for files that have none. They write the formats the families were trained on.

/// Name and Jinja source of every template.
pub const BUILTIN_TEMPLATES: [(&str, &str); 12] = [
    ("alpaca", ALPACA),
    ("chatml", CHATML),
    ("deepseek", DEEPSEEK),
    ("gemma", GEMMA),
    ("granite", GRANITE),
    ("llama2", LLAMA2),
    ("llama3", LLAMA3),
    ("mistral", MISTRAL),
    ("phi3", PHI3),
    ("tulu", TULU),
    ("vicuna", VICUNA),
    ("zephyr", ZEPHYR),
];

const CHATML: &str = "\
{%- for m in messages -%}
    {{ '<|im_start|>' ~ m.role ~ '\\n' ~ m.content ~ '<|im_end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif -%}
";

const LLAMA2: &str = "\
{%- set ns = namespace(system='') -%}
{%- for m in messages -%}
    {%- if m.role == 'system' -%}
        {%- set ns.system = '<<SYS>>\\n' ~ m.content ~ '\\n<</SYS>>\\n\\n' -%}
    {%- elif m.role == 'user' -%}
        {{ bos_token ~ '[INST] ' ~ ns.system ~ m.content | trim ~ ' [/INST]' }}
        {%- set ns.system = '' -%}
    {%- else -%}
        {{ ' ' ~ m.content | trim ~ ' ' ~ eos_token }}
    {%- endif -%}
{%- endfor -%}
";

const LLAMA3: &str = "\
{{- bos_token -}}
{%- for m in messages -%}
    {{ '<|start_header_id|>' ~ m.role ~ '<|end_header_id|>\\n\\n' ~ m.content | trim ~ '<|eot_id|>' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|start_header_id|>assistant<|end_header_id|>\\n\\n' }}{% endif -%}
";

const GEMMA: &str = "\
{{- bos_token -}}
{%- set ns = namespace(system='') -%}
{%- for m in messages -%}
    {%- if m.role == 'system' -%}
        {%- set ns.system = m.content ~ '\\n\\n' -%}
    {%- else -%}
        {{ '<start_of_turn>' ~ ('model' if m.role == 'assistant' else 'user') ~ '\\n' }}
        {{- ns.system ~ m.content | trim ~ '<end_of_turn>\\n' }}
        {%- set ns.system = '' -%}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<start_of_turn>model\\n' }}{% endif -%}
";

const ZEPHYR: &str = "\
{%- for m in messages -%}
    {{ '<|' ~ m.role ~ '|>\\n' ~ m.content ~ eos_token ~ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif -%}
";

const TULU: &str = "\
{{- bos_token -}}
{%- for m in messages -%}
    {{ '<|' ~ m.role ~ '|>\\n' ~ m.content ~ (eos_token if m.role == 'assistant' else '') ~ '\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif -%}
";

const PHI3: &str = "\
{%- for m in messages -%}
    {{ '<|' ~ m.role ~ '|>\\n' ~ m.content ~ '<|end|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|assistant|>\\n' }}{% endif -%}
";

const GRANITE: &str = "\
{%- for m in messages -%}
    {{ '<|start_of_role|>' ~ m.role ~ '<|end_of_role|>' ~ m.content ~ '<|end_of_text|>\\n' }}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<|start_of_role|>assistant<|end_of_role|>' }}{% endif -%}
";

const MISTRAL: &str = "\
{{- bos_token -}}
{%- set ns = namespace(system='') -%}
{%- for m in messages -%}
    {%- if m.role == 'system' -%}
        {%- set ns.system = m.content ~ '\\n\\n' -%}
    {%- elif m.role == 'user' -%}
        {{ '[INST] ' ~ ns.system ~ m.content ~ ' [/INST]' }}
        {%- set ns.system = '' -%}
    {%- else -%}
        {{ ' ' ~ m.content | trim ~ eos_token }}
    {%- endif -%}
{%- endfor -%}
";

const VICUNA: &str = "\
{{- bos_token -}}
{%- for m in messages -%}
    {%- if m.role == 'system' -%}
        {{ m.content ~ '\\n\\n' }}
    {%- elif m.role == 'user' -%}
        {{ 'USER: ' ~ m.content | trim ~ '\\n' }}
    {%- else -%}
        {{ 'ASSISTANT: ' ~ m.content | trim ~ eos_token ~ '\\n' }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ 'ASSISTANT:' }}{% endif -%}
";

const ALPACA: &str = "\
{%- for m in messages -%}
    {%- if m.role == 'system' -%}
        {{ m.content ~ '\\n\\n' }}
    {%- elif m.role == 'user' -%}
        {{ '### Instruction:\\n' ~ m.content | trim ~ '\\n\\n' }}
    {%- else -%}
        {{ '### Response:\\n' ~ m.content | trim ~ eos_token ~ '\\n\\n' }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '### Response:\\n' }}{% endif -%}
";

const DEEPSEEK: &str = "\
{{- bos_token -}}
{%- for m in messages -%}
    {%- if m.role == 'system' -%}
        {{ m.content ~ '\\n\\n' }}
    {%- elif m.role == 'user' -%}
        {{ '<｜User｜>' ~ m.content }}
    {%- else -%}
        {{ '<｜Assistant｜>' ~ m.content ~ eos_token }}
    {%- endif -%}
{%- endfor -%}
{%- if add_generation_prompt %}{{ '<｜Assistant｜>' }}{% endif -%}
";
