mod foreign;
