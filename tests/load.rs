//! The front door of the library: what is known before loading, what is refused, and what sessions share.

use std::ops::ControlFlow;

use smolt::generate::{Format, Request, SamplerOptions};
use smolt::gguf::{GgufError, GgufFile};
use smolt::kernels::KvType;
use smolt::{LoadError, LoadOptions, Loaded, Prepared};

use crate::chat::ONCE;
use crate::shared::{Scratch, repository};

const DEMO: &str = "src/cli/demo.gguf";

fn demo(options: &LoadOptions) -> Result<Loaded, LoadError> {
    smolt::load(repository(DEMO), options)
}

fn small() -> LoadOptions {
    LoadOptions { context: Some(128), threads: Some(1), ..LoadOptions::default() }
}

/// What the model answers, with its own preferences.
fn answer(model: &Loaded, message: &str) -> String {
    let prompt = model.prompt(message).unwrap();
    let request = Request { sampler: SamplerOptions::greedy(), ..Request::new(&prompt) };
    model.session().unwrap().generate(request, &mut |_| ControlFlow::Continue(())).unwrap().text
}

#[test]
fn a_model_that_needs_too_much_is_refused_before_it_is_loaded() {
    let prepared = Prepared::open(repository(DEMO), &small()).unwrap();
    let needed = prepared.plan().total;
    let plan = prepared.plan();
    let parts = plan.weights + plan.kv_cache + plan.scratch + plan.tokenizer + plan.grammar + plan.program;
    assert!(needed == parts && plan.weights > 1 << 20 && plan.program == 0);
    assert!(demo(&LoadOptions { max_memory: Some(needed), ..small() }).is_ok());
    let refused = LoadOptions { max_memory: Some(needed - 1), ..small() };
    let prepared = Prepared::open(repository(DEMO), &refused).unwrap();
    let error = prepared.check().unwrap_err();
    assert_eq!((error.needed, error.limit, error.context), (needed, needed - 1, 128));
    let fitting = LoadOptions { context: error.largest, ..refused.clone() };
    assert!(error.largest.is_some_and(|context| context < 128) && demo(&fitting).is_ok());
    assert!(matches!(demo(&refused), Err(LoadError::DoesNotFit(found)) if found == error));
    for more in [
        LoadOptions { program_bytes: 1, ..small() },
        LoadOptions { grammar: true, ..small() },
        LoadOptions { context: Some(256), ..small() },
        LoadOptions { kv: KvType::F32, ..small() },
    ] {
        let larger = LoadOptions { max_memory: Some(needed), ..more };
        assert!(matches!(demo(&larger), Err(LoadError::DoesNotFit(_))), "{larger:?}");
    }
}

#[test]
fn options_out_of_range_are_typed_errors() {
    for (options, what) in [
        (LoadOptions { threads: Some(0), ..small() }, "threads is 0, 1 to 256"),
        (LoadOptions { threads: Some(usize::MAX), ..small() }, "1 to 256"),
        (LoadOptions { logit_rows: 0, ..small() }, "logit rows is 0"),
        (LoadOptions { logit_rows: usize::MAX, ..small() }, "1 to 4096"),
        (LoadOptions { context: Some(0), ..small() }, "context of 0"),
        (LoadOptions { context: Some(usize::MAX), ..small() }, "outside"),
        (LoadOptions { pre: Some("none of these".to_owned()), ..small() }, "none of these"),
    ] {
        let error = demo(&options).err().expect(what).to_string();
        assert!(error.contains(what) && !error.contains("--"), "{error}");
    }
    let missing = smolt::load("no such file.gguf", &small());
    assert!(matches!(missing, Err(LoadError::Gguf(GgufError::NotFound { .. }))));
}

#[test]
fn sessions_share_weights_and_nothing_else() {
    let model = demo(&small()).unwrap();
    let prompts = ["What time do you open?", "Lock the front door"].map(|text| model.prompt(text).unwrap());
    let alone = prompts.each_ref().map(|prompt| said(&mut model.session().unwrap(), prompt));
    let mut sessions = [model.session().unwrap(), model.session().unwrap()];
    for _ in 0..2 {
        for ((session, prompt), alone) in sessions.iter_mut().zip(&prompts).zip(&alone) {
            assert_eq!(&said(session, prompt), alone);
        }
    }
    drop(model);
    assert_eq!(said(&mut sessions[0], &prompts[1]), alone[1], "a session needs no more than itself");
}

fn said(session: &mut smolt::generate::Session<smolt::model::Runner>, prompt: &[u32]) -> Vec<u32> {
    let request = Request { sampler: SamplerOptions::greedy(), ..Request::new(prompt) };
    session.generate(request, &mut |_| ControlFlow::Continue(())).unwrap().tokens
}

#[test]
fn a_model_says_how_its_tokens_are_chosen() {
    let scratch = Scratch::new("run", "own-sampling");
    let path = scratch.folder.join("m.gguf");
    ONCE.write_with(&path, |writer| {
        writer.set("general.sampling.temp", 0.7f32).set("general.sampling.top_k", 3u32);
    });
    let model = smolt::load(&path, &LoadOptions::default()).unwrap();
    let expected = SamplerOptions { temperature: 0.7, top_k: 3, ..SamplerOptions::default() };
    assert_eq!(model.sampling(), &expected);
    ONCE.write_with(&path, |writer| {
        writer.set("general.sampling.temp", -1.0f32);
    });
    let error = smolt::load(&path, &LoadOptions::default()).err().unwrap().to_string();
    assert!(error.contains("general.sampling.temp") && error.contains("-1"), "{error}");
    let (code, _, shown) = scratch.run(&["-m", "m.gguf", "Hi"]);
    let (_, what) = error.split_once(": ").unwrap();
    assert!(code == 3 && shown.contains(what), "the program says the same: {shown}");
}

#[test]
fn the_format_is_the_one_of_the_model() {
    let model = demo(&small()).unwrap();
    assert!(matches!(model.format().unwrap(), Format::Template(_)) && model.template().unwrap().is_some());
    assert_eq!(
        answer(&model, "What time do you open?"),
        "We are open every day except Monday, from 10 am to 6 pm."
    );
    // From bytes instead of a file.
    let bytes = std::fs::read(repository(DEMO)).unwrap();
    let file = GgufFile::from_vec("inside", bytes).unwrap();
    let inside = Prepared::new(file, &small()).unwrap().load().unwrap();
    assert_eq!(answer(&inside, "Lock the front door"), answer(&model, "Lock the front door"));
    let long = "word ".repeat(1000);
    assert!(matches!(model.prompt(&long), Err(LoadError::Template(_))));
}
