//! Computes how likely each of some answers is.

use smolt::LoadOptions;
use smolt::generate::Request;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let path = std::env::args().nth(1).unwrap_or("src/cli/demo.gguf".to_owned());
    let model = smolt::load(path, &LoadOptions::default())?;
    let mut session = model.session()?;
    let choices = ["door", "light", "timer"].map(str::to_owned);
    let prompt = model.prompt("Lock the front door")?;
    let (outcome, choices) = session.choose(&Request::new(&prompt), &choices, None)?;
    for choice in choices {
        println!("{:<6} {:.3} {:.2}", choice.text, choice.probability, choice.logprob);
    }
    println!("{}", outcome.text);
    Ok(())
}
